//! Cranelift's settings.

use cranelift_codegen::isa::OwnedTargetIsa;
use cranelift_codegen::settings::{self, Configurable, OptLevel};

/// The compiler's target: any x86-64, code at fixed addresses without frame pointers or stack probes.
pub(crate) fn isa(opt_level: OptLevel) -> OwnedTargetIsa {
    let mut flags = settings::builder();
    let flag = |value: bool| if value { "true" } else { "false" };
    for (name, value) in [
        ("opt_level", &*opt_level.to_string()),
        ("is_pic", "false"),
        ("enable_probestack", "false"),
        ("preserve_frame_pointers", "false"),
        ("unwind_info", "false"),
        ("enable_verifier", flag(cfg!(debug_assertions))),
    ] {
        flags.set(name, value).expect("a setting of Cranelift");
    }
    cranelift_codegen::isa::lookup_by_name("x86_64-unknown-linux-gnu")
        .and_then(|isa| {
            isa.finish(settings::Flags::new(flags))
                .map_err(|_| cranelift_codegen::isa::LookupError::Unsupported)
        })
        .expect("x86-64 is compiled into Cranelift")
}
