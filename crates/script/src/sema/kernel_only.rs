//! Functions of SystemTap's library and probe points that only a kernel module can serve, and what each of them would need.

/// Why there is no such function here; `None` when the library of SystemTap has none of that name either.
pub fn reason(name: &str) -> Option<&'static str> {
    GROUPS
        .iter()
        .find(|(names, _)| names.split_whitespace().any(|n| n == name))
        .map(|(_, reason)| *reason)
}

/// Why probe points that begin with a word are not served.
pub fn point_reason(first: &str) -> &'static str {
    match first {
        "process" => {
            "SystemTap gave up stepping from instruction to instruction, and there is none here"
        }
        "perf" => "counters that handlers read are those of a kernel module",
        "java" => "it needs the agent of SystemTap's Java runtime inside the Java machine",
        "python2" | "python3" => {
            "it needs SystemTap's module HelperSDT inside the Python program; marks of Python serve function entries"
        }
        _ => "it probes the kernel, and handlers here run inside programs",
    }
}

/// Names, and what they need. The names are those of the function:: manual pages of SystemTap.
const GROUPS: &[(&str, &str)] = &[
    (
        "backtrace print_backtrace print_backtrace_fileline sprint_backtrace caller caller_addr callers stack print_stack
         sprint_stack task_backtrace dump_stack",
        "it walks the kernel's stack, which a program cannot see; ubacktrace() and its kin walk the program's",
    ),
    (
        "stack_size stack_unused stack_used",
        "it measures the kernel's stack, which a program cannot see",
    ),
    (
        "symname symdata symfile symfileline symline print_syms sprint_syms modname probemod module_size",
        "it names addresses of the kernel, which a program cannot see; usymname(), umodname() and their kin name those of the program",
    ),
    (
        "kernel_buffer_quoted kernel_buffer_quoted_error kernel_char kernel_int kernel_long kernel_pointer kernel_short
         kernel_string kernel_string_n kernel_string_quoted kernel_string_quoted_utf16 kernel_string_quoted_utf32
         kernel_string_utf16 kernel_string_utf32 kernel_string2 kernel_int8 kernel_int16 kernel_int32 kernel_int64
         kernel_uint8 kernel_uint16 kernel_uint32 kernel_uint64 kernel_ulong kernel_ushort kernel_uint",
        "it reads the kernel's memory, which a program cannot; user_string() and its kin read the program's",
    ),
    (
        "set_kernel_char set_kernel_int set_kernel_long set_kernel_pointer set_kernel_short set_kernel_string
         set_kernel_string_n",
        "it writes to the kernel's memory, which a program cannot; set_user_string() and its kin write to the program's",
    ),
    (
        "atomic_read atomic_long_read addr_to_node d_name d_path fullpath_struct_nameidata inode_name inode_path real_mount
         reverse_path_walk task_dentry_path usrdev2kerndev vm_fault_contains nfsderror",
        "its argument is a structure of the kernel, of which a program has none",
    ),
    (
        "inet_get_ip_source inet_get_local_port ipmib_filter_key ipmib_get_proto ipmib_local_addr ipmib_remote_addr
         ipmib_tcp_local_port ipmib_tcp_remote_port linuxmib_filter_key tcpmib_filter_key tcpmib_get_state
         tcpmib_local_addr tcpmib_local_port tcpmib_remote_addr tcpmib_remote_port",
        "its argument is a socket or packet of the kernel, of which a program has none",
    ),
    ("panic printk", "it acts on the kernel itself, which a program cannot"),
    (
        "cve_count_metric cve_record_metric cve_tmpdisable",
        "it belongs to patches of the kernel",
    ),
    (
        "print_java_backtrace sprint_java_backtrace",
        "it needs the agent of SystemTap's Java runtime inside the Java machine",
    ),
];

#[cfg(test)]
mod tests {
    use super::reason;

    #[test]
    fn says_what_is_needed() {
        assert!(reason("print_backtrace").is_some_and(|r| r.contains("kernel's stack")));
        assert_eq!(reason("user_string"), None);
        assert_eq!(reason("no_such_function"), None);
        assert!(super::point_reason("kernel").contains("inside programs"));
    }
}
