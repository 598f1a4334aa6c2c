//! Remote procedure calls and NFS: /proc/net/rpc.

use super::system::{Row, Rows, System, number, word};

/// Counts that are not by procedure.
pub fn rpc(system: &mut System) -> Rows {
    let mut row = Row::single();
    let set_words = |row: &mut Row, key: &str, words: &[&str], fields: &[(&str, usize)]| {
        for (field, at) in fields {
            row.set_some(format!("{key}_{field}"), word(words, *at));
        }
    };
    let client = system.read("/proc/net/rpc/nfs").unwrap_or_default();
    for line in client.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.first().copied() {
            Some("net") => set_words(
                &mut row,
                "rpc_client",
                &words,
                &[
                    ("netcnt", 1),
                    ("netudpcnt", 2),
                    ("nettcpcnt", 3),
                    ("nettcpconn", 4),
                ],
            ),
            Some("rpc") => set_words(
                &mut row,
                "rpc_client",
                &words,
                &[("rpccnt", 1), ("rpcretrans", 2), ("rpcauthrefresh", 3)],
            ),
            _ => {}
        }
    }
    let server = system.read("/proc/net/rpc/nfsd");
    if server.is_ok() {
        // What some kernels count and others do not is 0 there.
        for field in ["fh_cached", "fh_valid", "fh_fixup", "fh_concurrent"] {
            row.set(format!("rpc_server_{field}"), 0);
        }
        for name in [
            "total",
            "pools",
            "requests",
            "enqueued",
            "processed",
            "timedout",
        ] {
            row.set(format!("nfs_server_threads_{name}"), 0);
        }
    }
    // Kernels from 5.4 on do not count reading ahead.
    for field in ["ra_size", "ra_hits", "ra_misses"] {
        row.set(format!("rpc_server_{field}"), 0);
    }
    for line in server.unwrap_or_default().lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let fields: &[(&str, usize)] = match words.first().copied() {
            Some("rc") => &[("rchits", 1), ("rcmisses", 2), ("rcnocache", 3)],
            Some("fh") => &[
                ("fh_stale", 1),
                ("fh_lookup", 2),
                ("fh_anon", 3),
                ("fh_nocache_dir", 4),
                ("fh_nocache_nondir", 5),
            ],
            Some("io") => &[("io_read", 1), ("io_write", 2)],
            Some("th") => &[("th_cnt", 1), ("th_fullcnt", 2)],
            Some("net") => &[
                ("netcnt", 1),
                ("netudpcnt", 2),
                ("nettcpcnt", 3),
                // As PCP has it; connections are in the next column.
                ("nettcpconn", 3),
            ],
            Some("ra") => &[("ra_size", 1), ("ra_misses", 12)],
            Some("rpc") => &[
                ("rpccnt", 1),
                ("rpcerr", 2),
                ("rpcbadfmt", 3),
                ("rpcbadauth", 4),
                ("rpcbadclnt", 5),
            ],
            _ => &[],
        };
        set_words(&mut row, "rpc_server", &words, fields);
        if let ["ra", _, hits @ ..] = words.as_slice() {
            // By how deep in the cache they were, in tenths of it.
            let hits = hits.iter().take(10).filter_map(|word| number(word));
            row.set("rpc_server_ra_hits", hits.fold(0, u64::wrapping_add));
        }
    }
    for (path, key, side) in [
        ("/proc/net/rpc/nfs", "proc2", "nfs_client_calls"),
        ("/proc/net/rpc/nfs", "proc3", "nfs3_client_calls"),
        ("/proc/net/rpc/nfs", "proc4", "nfs4_client_calls"),
        ("/proc/net/rpc/nfsd", "proc2", "nfs_server_calls"),
        ("/proc/net/rpc/nfsd", "proc3", "nfs3_server_calls"),
        ("/proc/net/rpc/nfsd", "proc4ops", "nfs4_server_calls"),
    ] {
        if let Some(counts) = procedures(system, path, key) {
            row.set(side, counts.into_iter().fold(0, u64::wrapping_add));
        }
    }
    if let Ok(threads) = system.read("/proc/fs/nfsd/pool_threads") {
        let threads = threads.split_whitespace().filter_map(number);
        row.set(
            "nfs_server_threads_total",
            threads.fold(0, u64::wrapping_add),
        );
    }
    if let Ok(pools) = system.read("/proc/fs/nfsd/pool_stats") {
        let pools: Vec<Vec<&str>> = pools
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split_whitespace().collect())
            .collect();
        row.set("nfs_server_threads_pools", pools.len() as u64);
        let names = ["requests", "enqueued", "processed", "timedout"];
        for (name, at) in names.iter().zip(1..) {
            let sum = pools.iter().filter_map(|words| word(words, at));
            row.set(
                format!("nfs_server_threads_{name}"),
                sum.fold(0, u64::wrapping_add),
            );
        }
    }
    Ok(vec![row])
}

/// The counts of a version's procedures.
fn procedures(system: &System, path: &str, key: &str) -> Option<Vec<u64>> {
    let text = system.read(path).ok()?;
    let line = text
        .lines()
        .find(|line| line.split(' ').next() == Some(key))?;
    // The first number is how many there are.
    let counts = line.split_whitespace().skip(2);
    Some(counts.map(|w| number(w).unwrap_or(0)).collect())
}

/// Rows for the procedures of a version, in the order of the protocol's numbers.
fn procedure_rows(system: &System, path: &str, key: &str, first: i32, names: &str) -> Rows {
    let counts = procedures(system, path, key);
    let rows = names.split(' ').zip(0usize..).map(|(name, at)| {
        let inst = first.saturating_add(i32::try_from(at).unwrap_or(i32::MAX));
        let mut row = Row::new(inst, name);
        // Procedures that are newer than the kernel were not called.
        let count = |counts: &Vec<u64>| counts.get(at).copied().unwrap_or(0);
        row.set_some("count", counts.as_ref().map(count));
        row
    });
    Ok(rows.collect())
}

const NFS2: &str = "null getattr setattr root lookup readlink read wrcache write create remove rename link symlink mkdir \
                    rmdir readdir statfs";
const NFS3: &str = "null getattr setattr lookup access readlink read write create mkdir symlink mknod remove rmdir rename \
                    link readdir readdir+ statfs fsinfo pathconf commit";
const NFS4_CLIENT: &str = "null read write commit open open_conf open_noat open_dgrd close setattr fsinfo renew setclntid \
                           confirm lock lockt locku access getattr lookup lookup_root remove rename link symlink create \
                           pathconf statfs readlink readdir server_caps delegreturn getacl setacl fs_locations rel_lkowner \
                           secinfo fsid_present exchange_id create_ses destroy_ses sequence get_lease_t reclaim_comp \
                           layoutget getdevinfo layoutcommit secinfononam test_stateid free_stateid getdevlist bind_ses \
                           destroy_clntid seek allocate deallocate";
const NFS4_SERVER: &str = "op0-unused op1-unused op2-future access close commit create delegpurge delegreturn getattr getfh \
                           link lock lockt locku lookup lookup_root nverify open openattr open_conf open_dgrd putfh \
                           putpubfh putrootfh read readdir readlink remove rename renew restorefh savefh secinfo setattr \
                           setcltid setcltidconf verify write rellockowner bc_ctl bind_conn exchange_id create_ses \
                           destroy_ses free_stateid getdirdeleg getdevinfo getdevlist layoutcommit layoutget layoutreturn \
                           secinfononam sequence set_ssv test_stateid want_deleg destroy_clid reclaim_comp allocate copy \
                           copy_notify deallocate io_advise layouterror layoutstats offload_cancel offload_status \
                           read_plus seek write_same";

pub fn nfs_client(system: &mut System) -> Rows {
    procedure_rows(system, "/proc/net/rpc/nfs", "proc2", 0, NFS2)
}

pub fn nfs_server(system: &mut System) -> Rows {
    procedure_rows(system, "/proc/net/rpc/nfsd", "proc2", 0, NFS2)
}

pub fn nfs3_client(system: &mut System) -> Rows {
    procedure_rows(system, "/proc/net/rpc/nfs", "proc3", 0, NFS3)
}

pub fn nfs3_server(system: &mut System) -> Rows {
    procedure_rows(system, "/proc/net/rpc/nfsd", "proc3", 0, NFS3)
}

pub fn nfs4_client(system: &mut System) -> Rows {
    procedure_rows(system, "/proc/net/rpc/nfs", "proc4", 0, NFS4_CLIENT)
}

pub fn nfs4_server(system: &mut System) -> Rows {
    procedure_rows(system, "/proc/net/rpc/nfsd", "proc4ops", 1, NFS4_SERVER)
}
