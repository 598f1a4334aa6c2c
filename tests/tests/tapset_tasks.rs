//! Tapset functions about processes and names, against what proc(5) and the headers say.

use spile_tests::{Scratch, stap};

fn printed(script: &str, args: &[&str]) -> String {
    let mut words = vec!["-e", script];
    words.extend(args);
    stap(&words).ok().stdout
}

#[test]
fn a_task_is_what_proc_says_of_it() {
    let scratch = Scratch::new("tasks");
    let program = scratch.compile(
        "t.c",
        r#"#include <signal.h>
           #include <stdio.h>
           #include <stdlib.h>
           #include <unistd.h>
           #include <sys/resource.h>
           volatile int hits;
           __attribute__((noinline)) void here(void) { hits += 1000; }
           int main(void) {
               sigset_t set; sigemptyset(&set); sigaddset(&set, SIGUSR2); sigprocmask(SIG_BLOCK, &set, 0);
               nice(3); chdir("/");
               here();
               return 0;
           }"#,
        &["-O1"],
    );
    let out = printed(
        r#"probe process.function("here") {
            t = task_current()
            println(task_execname(t), " ", pid2execname(pid()), " ", task_pid(t) == pid(), " ", task_tid(t) == tid())
            println(task_parent(t) == ppid(), task_parent() == ppid(), " ", task_uid(t) == uid(), task_egid(t) == egid())
            println(task_state(t), " ", task_nice(t), " ", task_prio(t), " ", task_cpu(t) >= 0)
            println(is_sig_blocked(t, 12), is_sig_blocked(t, 10), is_sig_blocked(t, 0))
            println(task_open_file_handles(t) >= 3, " ", task_max_file_handles(t) >= 64)
            println(fullpath_struct_path(task_cwd_path(t)), " ", fullpath_struct_file(t, current_exe_file()))
            println(task_fd_lookup(t, 9999), " ", pid2task(pid()) == pid(), " ", pid2task(1 << 30))
            println(proc_mem_size() >= proc_mem_rss(), " ", proc_mem_txt() > 0, " ", proc_mem_size(1 << 30))
            println(proc_mem_string() =~ "^size: [0-9]+[kmg], rss: [0-9]+[kmg], shr: [0-9]+[kmg], txt: [0-9]+[kmg], data: [0-9]+[kmg]$")
            println(task_time_string() =~ "^usr: 0m0.[0-9][0-9][0-9]s, sys: 0m0.[0-9][0-9][0-9]s$")
            println(task_start_time(tid()) > 0, " ", task_utime(1 << 30))
            println(isinstr(pstrace(t), sprintf(" %s(%d) %s(%d)", execname(), pid(), pexecname(), ppid())))
            println(isinstr(task_ancestry(t, 0), sprintf("%s=>%s", pexecname(), execname())))
        }"#,
        &["-c", &program.to_string_lossy()],
    );
    let exe = program.canonicalize().expect("the program");
    assert_eq!(
        out,
        format!(
            "t t 1 1\n11 11\n0 3 23 1\n100\n1 1\n/ {}\n0 1 0\n1 1 0\n1\n1\n1 0\n1\n1\n",
            exe.display()
        )
    );
}

/// Names of a process and of those that it descends from, the eldest first, as proc(5) has them.
fn ancestors(process: u32) -> Vec<String> {
    let mut names = Vec::new();
    let mut at = process;
    while at != 0 {
        let status = std::fs::read_to_string(format!("/proc/{at}/status")).expect("an ancestor");
        let field = |name: &str| {
            let value = status.lines().find_map(|l| l.strip_prefix(name));
            value.expect("a field of proc(5)").trim().to_string()
        };
        names.push(field("Name:"));
        at = field("PPid:").parse().expect("a process");
    }
    names.reverse();
    names
}

#[test]
fn ancestry_goes_back_to_the_idle_task() {
    let scratch = Scratch::new("ancestry");
    let program = scratch.compile(
        "kin.c",
        "volatile int hits;
         __attribute__((noinline)) void here(void) { hits += 1000; }
         int main(void) { here(); return 0; }",
        &["-O1"],
    );
    let out = printed(
        r#"probe process.function("here") {
            println(pexecname(), "=>", execname())
            println(task_ancestry(task_current(), 0))
            println(task_ancestry(task_current(), 1))
        }"#,
        &["-c", &program.to_string_lossy()],
    );
    let [last, names, times] = out.lines().collect::<Vec<_>>()[..] else {
        panic!("{out}");
    };
    let chain = ancestors(std::process::id()).join("=>");
    assert_eq!(names, format!("swapper/0=>{chain}=>{last}"));
    // With times, each name is followed by one: "(0m1.000000000s)".
    let untimed: Vec<&str> = (times.split("=>"))
        .map(|task| {
            let (name, time) = task.rsplit_once('(').expect("a time");
            let time = time.strip_suffix("s)").expect("seconds");
            let (minutes, seconds) = time.split_once('m').expect("minutes");
            assert!(minutes.parse::<u64>().is_ok(), "{times}");
            assert!(seconds.parse::<f64>().is_ok_and(|s| s < 60.0), "{times}");
            name
        })
        .collect();
    assert_eq!(untimed.join("=>"), names);
    assert!(times.starts_with("swapper/0(0m0.000000000s)=>"), "{times}");
}

#[test]
fn names_of_signals_sockets_limits_and_addresses() {
    let out = printed(
        r#"probe oneshot {
            println(signal_str(1), " ", signal_str(9), " ", signal_str(31), " ", signal_str(32), " ", signal_str(40), " ", signal_str(65))
            println(sigset_mask_str(0), " ", sigset_mask_str(0x4001))
            println(sa_flags_str(0), " ", sa_flags_str(0x10000004), " ", sa_flags_str(0x80000020))
            println(sa_handler_str(0), " ", sa_handler_str(1), " ", sa_handler_str(-1), " ", sa_handler_str(4096))
            println(sock_fam_num2str(2), " ", sock_fam_str2num("INET6"), " ", sock_fam_num2str(999), " ", sock_fam_str2num("x"))
            println(sock_prot_num2str(17), " ", sock_prot_str2num("TCP"), " ", sock_state_num2str(3), " ", sock_state_str2num("FREE"))
            println(rlimit_from_str("RLIMIT_CPU"), " ", rlimit_from_str("RLIMIT_NOFILE"), " ", rlimit_from_str("NOFILE"))
            println(ip_ntop(0x0100007f), " ", format_ipaddr(0x0100007f, 2), " ", format_ipaddr(1, 99))
            try { println(get_loadavg_index(3)) } catch (m) { println(m) }
            println(sprint_loadavg() =~ "^[0-9]+[.][0-9][0-9] [0-9]+[.][0-9][0-9] [0-9]+[.][0-9][0-9]\n$")
            println(HZ(), " ", cpu_clock_ns(0) > 0, " ", jiffies() > 0)
        }"#,
        &[],
    );
    assert_eq!(
        out,
        "HUP KILL SYS RTMIN RTMIN+8 \n 1,15\n SIGINFO|RESTART RESETHAND\ndefault ignored error 0x1000\n\
         INET 10 UNDEF -1\nUDP 6 CONNECTED 0\n0 7 -1\n127.0.0.1 127.0.0.1 *unknown address family*\n\
         Invalid loadavg index 3 specified.\n1\n100 1 1\n"
    );
}

#[test]
fn addresses_of_sockets_and_signal_actions_of_the_program() {
    let scratch = Scratch::new("sockaddr");
    let program = scratch.compile(
        "s.c",
        r#"#include <arpa/inet.h>
           #include <netinet/in.h>
           #include <signal.h>
           #include <string.h>
           #include <sys/un.h>
           volatile int hits;
           __attribute__((noinline)) void here(void *a, void *b, void *c, void *d) {
               __asm__ volatile("" :: "r"(a), "r"(b), "r"(c), "r"(d) : "memory"); hits += 1000; }
           int main(void) {
               struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(8080) };
               inet_pton(AF_INET, "192.168.1.20", &a.sin_addr);
               struct sockaddr_in6 b = { .sin6_family = AF_INET6, .sin6_port = htons(443) };
               inet_pton(AF_INET6, "fe80::1:2", &b.sin6_addr);
               struct sockaddr_un c = { .sun_family = AF_UNIX, .sun_path = "/run/x" };
               struct sigaction d; memset(&d, 0, sizeof d);
               d.sa_handler = SIG_IGN; d.sa_flags = SA_RESTART;
               here(&a, &b, &c, &d);
               return 0;
           }"#,
        &["-O1"],
    );
    let out = printed(
        r#"probe process.function("here") {
            println(format_sockaddr(pointer_arg(1)), " ", inet_get_port(pointer_arg(1)))
            println(format_sockaddr(pointer_arg(2)))
            println(format_sockaddr(pointer_arg(3)))
            println(sa_handler_str(get_sa_handler(pointer_arg(4))), " ", sa_flags_str(get_sa_flags(pointer_arg(4))))
        }"#,
        &["-c", &program.to_string_lossy()],
    );
    assert_eq!(
        out,
        "192.168.1.20:8080 8080\n[fe80:0000:0000:0000:0000:0000:0001:0002]:443\n/run/x\nignored RESTART\n"
    );
}

#[test]
fn what_needs_the_kernel_says_so() {
    for (call, reason) in [
        ("print_backtrace()", "the kernel's stack"),
        ("kernel_string(1)", "the kernel's memory"),
        ("symname(1)", "addresses of the kernel"),
        ("inode_name(1)", "a structure of the kernel"),
        ("printk(1, \"x\")", "acts on the kernel"),
    ] {
        let outcome = stap(&["-p2", "-e", &format!("probe begin {{ {call} }}")]);
        assert_eq!(outcome.status, Some(1), "{call}");
        let name = call.split('(').next().unwrap_or_default();
        assert!(
            outcome
                .stderr
                .contains(&format!("unresolved function {name} ("))
                && outcome.stderr.contains(reason),
            "{}",
            outcome.stderr
        );
    }
}

#[test]
fn macros_of_the_library() {
    let out = printed(
        r#"global s, a
        probe oneshot {
            @this1 = 5
            @this8 = 1
            println(@this1, " ", @this8, " ", @this8 - 1)
            s <<< 1; s <<< 3; a["x", 2] <<< 7
            @prints(s)
            @prints2(a)
            @try_assign(x, 1 / 0, 9)
            println(x)
        }"#,
        &[],
    );
    assert_eq!(
        out,
        "5 1 0\n@count=2 @min=1 @max=3 @sum=4 @avg=2\n[x,2] @count=1 @min=7 @max=7 @sum=7 @avg=7\n9\n"
    );
}
