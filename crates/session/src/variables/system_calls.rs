//! The variables of `process.syscall` and `process.syscall.return` (stapprobes(3stap)): the number, the arguments and
//! the result, where the kernel takes and leaves them (syscall(2), "Architecture calling conventions").

use super::listing;
use crate::resolve::Around;
use codegen::{Location, Resolution, Variable};
use script::ir::Target;

/// Registers by their numbers in instructions.
const RAX: u8 = 0;
const ARGUMENTS: [u8; 6] = [7, 6, 2, 10, 8, 9];

/// Under what the values of a call are kept until it returns: its stack pointer.
pub(super) const SLOT: (u8, i64) = (4, 0);

/// The meaning of a variable.
///
/// # Errors
/// As stap words them.
pub(super) fn resolve(around: Around, name: &str, target: &Target) -> Result<Resolution, String> {
    if target.address_of {
        return Err("cannot take address of utrace variable".into());
    }
    if !target.steps.is_empty() {
        return Err(format!(
            "utrace target variable '{name}' may not be used as a structure or array"
        ));
    }
    let is_before = match around {
        Around::Before => true,
        Around::After => false,
        Around::ThreadBegin | Around::ThreadEnd => {
            return Err(
                "only \"process(PATH_OR_PID).syscall\" and \"process(PATH_OR_PID).syscall.return\" probes support target symbols"
                    .into(),
            );
        }
    };
    if name == "$syscall" {
        return Ok(Resolution::Variable(register(RAX)));
    }
    if name == "$return" {
        return if is_before {
            Err("only \"process(PATH_OR_PID).syscall.return\" support $return.".into())
        } else {
            Ok(Resolution::Variable(register(RAX)))
        };
    }
    let number = name.strip_prefix("$arg");
    if number.is_none() && name != "$$parms" {
        return Err(
            "invalid target symbol for utrace probe, $syscall, $return, $argN or $$parms expected"
                .into(),
        );
    }
    if !is_before {
        return Err("only \"process(PATH_OR_PID).syscall\" support $argN or $$parms.".into());
    }
    let Some(number) = number else {
        let all = ARGUMENTS.iter().zip(1..);
        return Ok(Resolution::Text(listing(
            all.map(|(&at, i)| (format!("$arg{i}"), Some(register(at)))),
        )));
    };
    let number = number.parse::<usize>().ok();
    let at = number.and_then(|n| ARGUMENTS.get(n.checked_sub(1)?));
    let at = at.ok_or("invalid syscall argument number (1-6)")?;
    Ok(Resolution::Variable(register(*at)))
}

fn register(number: u8) -> Variable {
    Variable::plain(Location::Register { number, shift: 0 }, 8, true)
}

/// What `-L` shows behind the point.
pub(super) fn describe(around: Around) -> Vec<String> {
    let arguments = (1..=ARGUMENTS.len()).map(|i| format!(" $arg{i}:long"));
    let number = || std::iter::once(" $syscall:long".to_owned());
    match around {
        Around::Before => number().chain(arguments).collect(),
        Around::After => number()
            .chain(std::iter::once(" $return:long".to_owned()))
            .collect(),
        Around::ThreadBegin | Around::ThreadEnd => Vec::new(),
    }
}
