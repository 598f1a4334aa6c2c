//! The network: /proc/net and /sys/class/net.

use std::collections::HashMap;

use pcp::ErrorCode;

use super::system::{Row, Rows, System, number};

/// The instance domain of interfaces.
pub const INTERFACE: u32 = 3;
/// That of interfaces with their addresses.
const ADDRESS: u32 = 17;

/// The columns of /proc/net/dev.
const COLUMNS: [&str; 16] = [
    "in_bytes",
    "in_packets",
    "in_errors",
    "in_drops",
    "in_fifo",
    "in_frame",
    "in_compressed",
    "in_mcasts",
    "out_bytes",
    "out_packets",
    "out_errors",
    "out_drops",
    "out_fifo",
    "collisions",
    "out_carrier",
    "out_compressed",
];

fn interface_rows(system: &System) -> Result<Vec<Row>, ErrorCode> {
    let text = system.read("/proc/net/dev")?;
    let rows = text.lines().filter_map(|line| {
        let (name, counts) = line.split_once(':')?;
        let mut row = Row::new(0, name.trim());
        for (column, count) in COLUMNS.iter().zip(counts.split_whitespace()) {
            row.set_some(*column, number(count));
        }
        for what in ["bytes", "packets", "errors", "drops"] {
            let part = |way: &str| row.number(&format!("{way}_{what}")).unwrap_or(0);
            let total = part("in").wrapping_add(part("out"));
            row.set(format!("total_{what}"), total);
        }
        // Only those received are counted.
        row.set_some("total_mcasts", row.number("in_mcasts"));
        Some(row)
    });
    Ok(rows.collect())
}

/// Flags of an interface (`netdevice(7)`).
const UP: u64 = 1;
const RUNNING: u64 = 0x40;

pub fn interfaces(system: &mut System) -> Rows {
    let mut rows = interface_rows(system)?;
    for row in &mut rows {
        row.inst = system.instance(INTERFACE, &row.name);
        let folder = format!("/sys/class/net/{}", row.name);
        row.set_some("mtu", system.number(&format!("{folder}/mtu")));
        if let Some(megabits) = system.number(&format!("{folder}/speed")) {
            // An unknown speed is -1 in 32 bits, which PCP's agent shows as it is.
            let bytes = u64::from(megabits as u32).wrapping_mul(1_000_000) / 8;
            row.set("speed", bytes as f64 / f64::from(1 << 20));
            row.set("baudrate", bytes);
        }
        match system.line(&format!("{folder}/duplex")).as_deref() {
            Some("half") => row.set("duplex", 1),
            Some("full") => row.set("duplex", 2),
            _ => {}
        }
        let flags = system.line(&format!("{folder}/flags"));
        let flags = flags.and_then(|f| u64::from_str_radix(f.trim_start_matches("0x"), 16).ok());
        let flags = flags.unwrap_or(0);
        row.set("up", u64::from(flags & UP != 0));
        // What the file has does not say it: resources are there when it is up and has a carrier.
        let carrier = system.number(&format!("{folder}/carrier")) == Some(1);
        row.set(
            "running",
            u64::from(flags & RUNNING != 0 || flags & UP != 0 && carrier),
        );
        let wireless = system.path(&format!("{folder}/wireless")).exists();
        row.set("wireless", u64::from(wireless));
        let hardware = system.number(&format!("{folder}/type"));
        row.set("type", hardware.unwrap_or(0));
        let bridge = system.path(&format!("{folder}/bridge")).exists();
        row.set("virtual", u64::from(bridge));
    }
    Ok(rows)
}

/// Whether an interface counts as hardware in the sums over all, by the names in PCP's `linux/interfaces.conf`.
fn is_physical(name: &str) -> bool {
    let numbered = |prefix: &str, suffix: &str| {
        let digits = name
            .strip_prefix(prefix)
            .and_then(|rest| rest.strip_suffix(suffix))
            .unwrap_or_default();
        !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
    };
    let prefixes = [
        "bond",
        "team",
        "tun",
        "virbr",
        "cni",
        "cni-podman",
        "docker",
        "veth",
    ];
    let is_virtual = name == "lo"
        || name == "face"
        || prefixes.iter().any(|prefix| numbered(prefix, ""))
        || numbered("virbr", "-nic");
    !is_virtual
}

pub fn all_interfaces(system: &mut System) -> Rows {
    let mut sum = Row::single();
    let mut sums: HashMap<String, u64> = HashMap::new();
    for row in interface_rows(system)? {
        if !is_physical(&row.name) {
            continue;
        }
        for way in ["in", "out", "total"] {
            for what in ["bytes", "packets", "errors", "drops"] {
                let field = format!("{way}_{what}");
                let more = row.number(&field).unwrap_or(0);
                let sum = sums.entry(field).or_default();
                *sum = sum.wrapping_add(more);
            }
        }
    }
    for (field, value) in sums {
        sum.set(field, value);
    }
    Ok(vec![sum])
}

pub fn addresses(system: &mut System) -> Rows {
    let mut rows = Vec::new();
    let mut v4: HashMap<String, String> = HashMap::new();
    for address in nix::ifaddrs::getifaddrs().into_iter().flatten() {
        let socket = address.address.as_ref();
        if let Some(inet) = socket.and_then(nix::sys::socket::SockaddrStorage::as_sockaddr_in) {
            v4.entry(address.interface_name)
                .or_insert_with(|| inet.ip().to_string());
        }
    }
    let v6 = system.read("/proc/net/if_inet6").unwrap_or_default();
    let mut inet6: HashMap<&str, (String, &str)> = HashMap::new();
    for line in v6.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (&[address, _, prefix, scope, _, name], Ok(bits)) = (
            words.as_slice(),
            u128::from_str_radix(words.first().unwrap_or(&""), 16),
        ) else {
            continue;
        };
        debug_assert_eq!(address.len(), 32);
        let prefix = u8::from_str_radix(prefix, 16).unwrap_or(0);
        let address = std::net::Ipv6Addr::from(bits);
        let scope = match u8::from_str_radix(scope, 16).unwrap_or(0) & 0xf0 {
            0x00 => "Global",
            0x10 => "Host",
            0x20 => "Link",
            0x40 => "Site",
            0x80 => "Compat",
            _ => "Unknown",
        };
        // Of several the last one counts.
        inet6.insert(name, (format!("{address}/{prefix}"), scope));
    }
    for name in system.names("/sys/class/net") {
        let mut row = Row::new(system.instance(ADDRESS, &name), name.clone());
        row.set_some("inet_addr", v4.get(&name).cloned());
        if let Some((address, scope)) = inet6.get(name.as_str()) {
            row.set("ipv6_addr", address.as_str());
            row.set("ipv6_scope", *scope);
        }
        let hardware = system.line(&format!("/sys/class/net/{name}/address"));
        row.set_some("hw_addr", hardware);
        rows.push(row);
    }
    Ok(rows)
}

/// Pairs of lines, names and values: /proc/net/snmp and /proc/net/netstat. Fields are `ip_inreceives`.
fn pairs(system: &System, path: &str, row: &mut Row) -> Result<(), ErrorCode> {
    let text = system.read(path)?;
    let lines: Vec<&str> = text.lines().collect();
    for pair in lines.chunks_exact(2) {
        let [names, values] = pair else { continue };
        let (Some((protocol, names)), Some((_, values))) =
            (names.split_once(':'), values.split_once(':'))
        else {
            continue;
        };
        let protocol = protocol.to_lowercase();
        let protocol = protocol.trim_end_matches("ext");
        for (name, value) in names.split_whitespace().zip(values.split_whitespace()) {
            let name = name.to_lowercase();
            // PCP leaves the protocol away that the kernel repeats in some names.
            if let Some(rest) = name.strip_prefix("tcp").filter(|_| protocol == "tcp") {
                row.set_some(format!("tcp_{rest}"), number(value));
            }
            row.set_some(format!("{protocol}_{name}"), number(value));
        }
    }
    Ok(())
}

pub fn snmp(system: &mut System) -> Rows {
    let mut row = Row::single();
    pairs(system, "/proc/net/snmp", &mut row)?;
    Ok(vec![row])
}

/// Names of /proc/net/netstat that PCP calls otherwise.
const NETSTAT_ALIASES: [(&str, &str); 10] = [
    ("ip_csumerrors", "ip_incsumerrors"),
    ("ip_noectpkts", "ip_innoectpkts"),
    ("ip_ect1pkts", "ip_inect1pkts"),
    ("ip_ect0pkts", "ip_inect0pkts"),
    ("ip_cepkts", "ip_incepkts"),
    ("tcp_timewaited", "tcp_tw"),
    ("tcp_timewaitrecycled", "tcp_twrecycled"),
    ("tcp_timewaitkilled", "tcp_twkilled"),
    ("tcp_pawsactiverejected", "tcp_pawsactive"),
    ("tcp_pawsestabrejected", "tcp_pawsestab"),
];

pub fn netstat(system: &mut System) -> Rows {
    let mut row = Row::single();
    pairs(system, "/proc/net/netstat", &mut row)?;
    for (alias, name) in NETSTAT_ALIASES {
        row.set_some(alias, row.number(name));
    }
    row.set_some("tcp_pawspassiverejected", row.number("tcp_pawspassive"));
    row.set_some("tcp_iprpfilter", row.number("tcp_ipreversepathfilter"));
    Ok(vec![row])
}

/// Types of ICMP messages.
const ICMP_TYPES: i32 = 256;

pub fn icmp_messages(system: &mut System) -> Rows {
    let mut counts = Row::single();
    pairs(system, "/proc/net/snmp", &mut counts)?;
    let rows = (0..ICMP_TYPES).map(|number| {
        let mut row = Row::new(number, format!("Type{number}"));
        for way in ["intype", "outtype"] {
            row.set_some(way, counts.number(&format!("icmpmsg_{way}{number}")));
        }
        row
    });
    Ok(rows.collect())
}

pub fn snmp6(system: &mut System) -> Rows {
    let mut row = Row::single();
    for line in system.read("/proc/net/snmp6")?.lines() {
        let mut words = line.split_whitespace();
        if let (Some(name), Some(value)) = (words.next(), words.next()) {
            let name = name.to_lowercase();
            if let Some(start) = name.strip_suffix("rcvbuferrors") {
                row.set_some(format!("{start}recvbuferrors"), number(value));
            }
            row.set_some(name, number(value));
        }
    }
    Ok(vec![row])
}

pub fn sockstat(system: &mut System) -> Rows {
    let mut row = Row::single();
    let mut text = system.read("/proc/net/sockstat")?;
    // Without IPv6 there is none.
    text.push_str(&system.read("/proc/net/sockstat6").unwrap_or_default());
    for line in text.lines() {
        let Some((protocol, rest)) = line.split_once(':') else {
            continue;
        };
        let protocol = protocol.to_lowercase();
        let words: Vec<&str> = rest.split_whitespace().collect();
        for pair in words.chunks_exact(2) {
            if let [name, value] = pair {
                row.set_some(format!("{protocol}_{name}"), number(value));
            }
        }
    }
    row.set_some("total", row.number("sockets_used"));
    Ok(vec![row])
}

/// The states of a TCP connection, from 1 (the kernel's tcp_states.h).
const TCP_STATES: [&str; 11] = [
    "established",
    "syn_sent",
    "syn_recv",
    "fin_wait1",
    "fin_wait2",
    "time_wait",
    "close",
    "close_wait",
    "last_ack",
    "listen",
    "closing",
];

/// How many sockets of a file are in each state, from 1.
fn states(system: &System, path: &str) -> Result<HashMap<usize, u64>, ErrorCode> {
    let text = system.read(path)?;
    let mut counts = HashMap::new();
    for line in text.lines().skip(1) {
        let state = line.split_whitespace().nth(3);
        if let Some(state) = state.and_then(|s| usize::from_str_radix(s, 16).ok()) {
            *counts.entry(state).or_default() += 1;
        }
    }
    Ok(counts)
}

fn tcp(system: &System, path: &str) -> Rows {
    let counts = states(system, path)?;
    let mut row = Row::single();
    for (state, number) in TCP_STATES.iter().zip(1..) {
        row.set(*state, counts.get(&number).copied().unwrap_or(0));
    }
    Ok(vec![row])
}

pub fn tcp_connections(system: &mut System) -> Rows {
    tcp(system, "/proc/net/tcp")
}

pub fn tcp6_connections(system: &mut System) -> Rows {
    tcp(system, "/proc/net/tcp6")
}

/// Other sockets: raw, UDP, Unix.
pub fn sockets(system: &mut System) -> Rows {
    let mut row = Row::single();
    for version in ["", "6"] {
        if let Ok(counts) = states(system, &format!("/proc/net/raw{version}")) {
            row.set(
                format!("rawconn{version}_count"),
                counts.values().sum::<u64>(),
            );
        }
        if let Ok(counts) = states(system, &format!("/proc/net/udp{version}")) {
            // The kernel has TCP's states for them: 1 is connected, 7 is not.
            let count = |state| counts.get(&state).copied().unwrap_or(0);
            row.set(format!("udpconn{version}_established"), count(1));
            row.set(format!("udpconn{version}_listen"), count(7));
        }
    }
    let text = system.read("/proc/net/unix")?;
    let [mut datagram, mut stream, mut established, mut listen] = [0u64; 4];
    for line in text.lines().skip(1) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match (words.get(4).copied(), words.get(5).copied()) {
            (Some("0002"), _) => datagram += 1,
            (Some("0001"), state) => {
                stream += 1;
                // SS_CONNECTED; one that listens is unconnected.
                established += u64::from(state == Some("03"));
                listen += u64::from(state == Some("01"));
            }
            _ => {}
        }
    }
    row.set("unix_datagram_count", datagram);
    row.set("unix_stream_count", stream);
    row.set("unix_stream_established", established);
    row.set("unix_stream_listen", listen);
    Ok(vec![row])
}

/// The columns of /proc/net/softnet_stat that PCP has, in hexadecimal.
const SOFTNET: [(&str, usize); 6] = [
    ("processed", 0),
    ("dropped", 1),
    ("time_squeeze", 2),
    ("cpu_collision", 8),
    ("received_rps", 9),
    ("flow_limit_count", 10),
];

pub fn softnet_per_cpu(system: &mut System) -> Rows {
    let text = system.read("/proc/net/softnet_stat")?;
    let rows = text.lines().zip(0..).map(|(line, cpu)| {
        let mut row = Row::new(cpu, format!("cpu{cpu}"));
        let words: Vec<&str> = line.split_whitespace().collect();
        for (field, at) in SOFTNET {
            let value = words.get(at).and_then(|w| u64::from_str_radix(w, 16).ok());
            row.set_some(field, value);
        }
        row
    });
    Ok(rows.collect())
}

pub fn softnet(system: &mut System) -> Rows {
    let rows = softnet_per_cpu(system)?;
    let mut sum = Row::single();
    for (field, _) in SOFTNET {
        let values: Vec<u64> = rows.iter().filter_map(|row| row.number(field)).collect();
        if !values.is_empty() {
            sum.set(field, values.into_iter().fold(0, u64::wrapping_add));
        }
    }
    Ok(vec![sum])
}
