//! System V's shared memory, messages and semaphores: /proc/sysvipc and /proc/sys/kernel.

use super::system::{Row, Rows, System, number, word};

/// Rows of a file of /proc/sysvipc, fields by the names in its first line.
fn table(system: &System, kind: &str) -> Result<Vec<Vec<(String, String)>>, pcp::ErrorCode> {
    let text = system.read(&format!("/proc/sysvipc/{kind}"))?;
    let mut lines = text.lines();
    let names: Vec<&str> = lines
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let rows = lines.map(|line| {
        let values = line.split_whitespace().map(str::to_owned);
        names.iter().map(|n| (*n).to_owned()).zip(values).collect()
    });
    Ok(rows.collect())
}

fn field<'a>(row: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = row.iter().find(|(n, _)| n == name);
    found.map(|(_, value)| value.as_str())
}

fn count(row: &[(String, String)], name: &str) -> u64 {
    field(row, name).and_then(number).unwrap_or(0)
}

/// The name of a user, or the number of one without.
fn owner(row: &[(String, String)]) -> String {
    let uid = field(row, "uid").unwrap_or_default();
    let user = uid.parse().ok().map(nix::unistd::Uid::from_raw);
    let user = user.and_then(|uid| nix::unistd::User::from_uid(uid).ok().flatten());
    user.map_or_else(|| uid.to_owned(), |user| user.name)
}

/// What segments, queues and sets have in common.
fn one(system: &mut System, indom: u32, row: &[(String, String)], id: &str) -> Option<Row> {
    let id = field(row, id)?;
    let mut out = Row::new(system.instance(indom, id), id);
    let key = field(row, "key").and_then(|key| key.parse::<i64>().ok());
    out.set("key", format!("0x{:08x}", key.unwrap_or(0) as u32));
    out.set("owner", owner(row));
    let perms = field(row, "perms").and_then(|p| u64::from_str_radix(p, 8).ok());
    // PCP shows the octal digits as a decimal number.
    let digits = perms.map(|p| format!("{:o}", p & 0o777));
    out.set_some("perms", digits.and_then(|d| number(&d)));
    Some(out)
}

pub fn shared_memory(system: &mut System) -> Rows {
    let rows = table(system, "shm")?;
    let rows = rows.iter().filter_map(|row| {
        let mut out = one(system, 28, row, "shmid")?;
        out.set("segsz", count(row, "size"));
        out.set("nattch", count(row, "nattch"));
        out.set("creator_pid", count(row, "cpid"));
        out.set("last_access_pid", count(row, "lpid"));
        let perms = field(row, "perms").and_then(|p| u64::from_str_radix(p, 8).ok());
        let perms = perms.unwrap_or(0);
        // SHM_DEST and SHM_LOCKED.
        let mut status = Vec::new();
        if perms & 0o1000 != 0 {
            status.push("dest");
        }
        if perms & 0o2000 != 0 {
            status.push("locked");
        }
        out.set("status", status.join(" "));
        Some(out)
    });
    Ok(rows.collect())
}

pub fn messages(system: &mut System) -> Rows {
    let rows = table(system, "msg")?;
    let rows = rows.iter().filter_map(|row| {
        let mut out = one(system, 29, row, "msqid")?;
        out.set("msgsz", count(row, "cbytes"));
        out.set("messages", count(row, "qnum"));
        out.set("last_send_pid", count(row, "lspid"));
        out.set("last_recv_pid", count(row, "lrpid"));
        Some(out)
    });
    Ok(rows.collect())
}

pub fn semaphores(system: &mut System) -> Rows {
    let rows = table(system, "sem")?;
    let rows = rows.iter().filter_map(|row| {
        let mut out = one(system, 30, row, "semid")?;
        out.set("nsems", count(row, "nsems"));
        Some(out)
    });
    Ok(rows.collect())
}

/// Sums over all.
pub fn info(system: &mut System) -> Rows {
    let mut out = Row::single();
    let sem = table(system, "sem")?;
    out.set("sem_used_sem", sem.len() as u64);
    out.set(
        "sem_tot_sem",
        sem.iter().map(|row| count(row, "nsems")).sum::<u64>(),
    );
    let msg = table(system, "msg")?;
    out.set("msg_used_queues", msg.len() as u64);
    out.set(
        "msg_tot_msg",
        msg.iter().map(|row| count(row, "qnum")).sum::<u64>(),
    );
    out.set(
        "msg_tot_bytes",
        msg.iter().map(|row| count(row, "cbytes")).sum::<u64>(),
    );
    Ok(vec![out])
}

/// Sums over shared memory: in pages, times the size of one.
pub fn shared_memory_info(system: &mut System) -> Rows {
    let mut out = Row::single();
    let shm = table(system, "shm")?;
    let page = system.page;
    let whole = |bytes: u64| bytes.div_ceil(page).wrapping_mul(page);
    out.set(
        "tot",
        shm.iter().map(|row| whole(count(row, "size"))).sum::<u64>(),
    );
    out.set("rss", shm.iter().map(|row| count(row, "rss")).sum::<u64>());
    out.set("swp", shm.iter().map(|row| count(row, "swap")).sum::<u64>());
    out.set("used_ids", shm.len() as u64);
    // Kernels since 2.4 count neither.
    out.set("swap_attempts", 0);
    out.set("swap_successes", 0);
    Ok(vec![out])
}

pub fn limits(system: &mut System) -> Rows {
    let mut out = Row::single();
    let text = system.read("/proc/sys/kernel/sem").unwrap_or_default();
    let sem: Vec<&str> = text.split_whitespace().collect();
    // semctl(2), IPC_INFO: some fields are others again.
    for (fields, at) in [
        (&["sem_max_perid"][..], 0),
        (&["sem_max_semmap", "sem_max_sem", "sem_num_undo"], 1),
        (&["sem_max_ops", "sem_max_undoent"], 2),
        (&["sem_max_semid"], 3),
    ] {
        for field in fields {
            out.set_some(*field, word(&sem, at));
        }
    }
    // SEMUSZ, SEMVMX and SEMAEM of linux/sem.h.
    out.set("sem_sz_semundo", 20);
    out.set("sem_max_semval", 32_767);
    out.set("sem_max_exit", 32_767);
    let kernel = |name: &str| system.number(&format!("/proc/sys/kernel/{name}"));
    out.set_some("msg_max_msgsz", kernel("msgmax"));
    out.set_some("msg_max_defmsgq", kernel("msgmnb"));
    out.set_some("msg_max_msgqid", kernel("msgmni"));
    // MSGPOOL, MSGMAP, MSGSSZ, MSGTQL and MSGSEG of linux/msg.h, which nothing changes.
    out.set("msg_sz_pool", 512_000);
    out.set("msg_mapent", 16_384);
    out.set("msg_max_msgseg", 16);
    out.set("msg_num_smsghdr", 16_384);
    out.set("msg_max_seg", 65_535);
    out.set_some("shm_max_segsz", kernel("shmmax"));
    out.set("shm_min_segsz", 1);
    out.set_some("shm_max_seg", kernel("shmmni"));
    out.set_some("shm_max_segproc", kernel("shmmni"));
    out.set_some("shm_max_shmsys", kernel("shmall"));
    Ok(vec![out])
}
