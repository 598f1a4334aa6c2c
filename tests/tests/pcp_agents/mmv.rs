//! The agent `mmv`.

use std::fs;
use std::process::Command;

use spile_tests::pcp_peer::{self, Pmcd};
use spile_tests::{Scratch, run, spile_path};

use super::{debian, debian_pmcd, exposed, our_pmcd, private_configuration};

/// Writes a file with PCP's library: version 2, or 3 where there are labels. All types, in an instance domain and without one, and values
/// of which some stand for none when the flags say so.
const WRITER: &str = r#"
#include <pcp/pmapi.h>
#include <pcp/mmv_stats.h>
#include <float.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *instances[] = { "zero", "minus one", "least", "most", "none", "untouched" };

int main(int argc, char **argv)
{
    mmv_registry_t *all = mmv_stats_registry(argv[1], atoi(argv[2]), atoi(argv[3]));
    pmUnits units = MMV_UNITS(0, 0, 1, 0, 0, PM_COUNT_ONE);
    char name[32];
    int i, type;
    mmv_stats_add_indom(all, 5, "a domain", "what it is of");
    for (i = 0; i < 6; i++)
        mmv_stats_add_instance(all, 5, i * 3, instances[i]);
    for (type = MMV_TYPE_I32; type <= MMV_TYPE_ELAPSED; type++) {
        if (type > MMV_TYPE_STRING && type < MMV_TYPE_ELAPSED)
            continue;
        snprintf(name, sizeof name, "several.t%d", type);
        mmv_stats_add_metric(all, strdup(name), type + 1, type, MMV_SEM_INSTANT, units, 5, "in short", "at length");
        snprintf(name, sizeof name, "single.t%d", type);
        mmv_stats_add_metric(all, strdup(name), type + 101, type, MMV_SEM_COUNTER, units, 0, type & 1 ? "in short" : NULL, NULL);
    }
    if (argc > 4) {
        mmv_stats_add_registry_label(all, "text", "some text", MMV_STRING_TYPE, 0);
        mmv_stats_add_registry_label(all, "truth", "true", MMV_BOOLEAN_TYPE, 1);
        mmv_stats_add_indom_label(all, 5, "list", "[1,2]", MMV_ARRAY_TYPE, 0);
        mmv_stats_add_metric_label(all, 3, "number", "12.5", MMV_NUMBER_TYPE, 0);
        mmv_stats_add_instance_label(all, 5, 6, "nothing", "null", MMV_NULL_TYPE, 0);
        mmv_stats_add_instance_label(all, 5, 9, "map", "{\"a\":1}", MMV_MAP_TYPE, 1);
    }
    void *map = mmv_stats_start(all);
    if (map == NULL)
        return 1;
    for (type = MMV_TYPE_I32; type <= MMV_TYPE_ELAPSED; type++) {
        if (type > MMV_TYPE_STRING && type < MMV_TYPE_ELAPSED)
            continue;
        snprintf(name, sizeof name, "several.t%d", type);
        for (i = 0; i < 5; i++) {
            pmAtomValue *value = mmv_lookup_value_desc(map, name, instances[i]);
            int words[] = { 0, -1, INT_MIN, INT_MAX, -1 };
            long long longs[] = { 0, -1, LLONG_MIN, LLONG_MAX, -1 };
            double reals[] = { 0, -1, -INFINITY, FLT_MAX, NAN };
            if (value == NULL)
                return 2;
            if (type == MMV_TYPE_STRING)
                mmv_set_string(map, value, i == 4 ? "" : instances[i], i == 4 ? 0 : strlen(instances[i]));
            else if (type == MMV_TYPE_FLOAT)
                value->f = reals[i];
            else if (type == MMV_TYPE_DOUBLE)
                value->d = reals[i];
            else if (type == MMV_TYPE_I32 || type == MMV_TYPE_U32)
                value->l = words[i];
            else
                value->ll = longs[i];
        }
    }
    return 0;
}
"#;

#[test]
fn files_of_pcps_library_are_read_as_debians_agent_reads_them() {
    let said = |name: &str, theirs: bool| {
        let scratch = Scratch::new(name);
        let headers = pcp_peer::headers(env!("CARGO_TARGET_TMPDIR"));
        let headers = format!("-I{}", headers.display());
        let libraries = ["/usr/lib/libpcp_mmv.so.1", "/usr/lib/libpcp.so.3"];
        let flags = [&headers, libraries[0], libraries[1]];
        let writer = scratch.compile("writer.c", WRITER, &flags);
        let config = private_configuration(&scratch);
        fs::create_dir(scratch.path("mmv")).expect("a folder");
        for arguments in [
            &["second", "401", "0"][..],
            &["sentinels", "402", "4"],
            &["labels", "403", "0", "labels"],
            &["plain-names", "404", "5", "labels"],
        ] {
            let mut command = Command::new(&writer);
            command.args(arguments).env("PCP_CONF", &config);
            run(command).ok();
        }
        let agent = debian().join("usr/lib/pcp/pmdas/mmv/pmda_mmv.so");
        let (mut command, line) = match theirs {
            true => (debian_pmcd(), format!("dso mmv_init {}", agent.display())),
            false => {
                let line = format!("pipe binary {} pmdammv", spile_path().display());
                (our_pmcd(), line)
            }
        };
        command.env("PCP_CONF", config);
        let names = "root { mmv 70:*:* }\n";
        let pmcd = Pmcd::start(scratch, command, &format!("mmv 70 {line}\n"), names);
        exposed(&pmcd, "mmv", 70)
    };
    let theirs = said("agents-mmv-theirs", true);
    let ours = said("agents-mmv-ours", false);
    let (our_names, their_names) = (ours.keys(), theirs.keys());
    assert!(our_names.eq(their_names));
    let of_files = theirs
        .iter()
        .filter(|(name, _)| !name.starts_with("control."));
    for (name, theirs) in of_files.clone() {
        assert_eq!(&ours[name], theirs, "{name}");
    }
    assert_eq!(of_files.count(), 4 * 16);
}
