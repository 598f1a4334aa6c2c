//! Calls whose target stands in the instruction.

use iced_x86::{Code, Decoder, DecoderOptions, FlowControl};

/// A call of a function by its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DirectCall {
    /// The address behind the call: where it returns to.
    pub returns_to: u64,
    /// What is called.
    pub target: u64,
}

/// The direct calls in code that begins at an address with an instruction, up to the first bytes that are none.
pub fn direct_calls(code: &[u8], address: u64) -> Vec<DirectCall> {
    let mut found = Vec::new();
    for instruction in Decoder::with_ip(64, code, address, DecoderOptions::NONE) {
        if instruction.code() == Code::INVALID {
            break;
        }
        if instruction.flow_control() == FlowControl::Call && instruction.is_call_near() {
            found.push(DirectCall {
                returns_to: instruction.next_ip(),
                target: instruction.near_branch_target(),
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_by_address_are_found() {
        // call +0; call *%rax; call -5; ret
        let code = [
            0xe8, 0, 0, 0, 0, 0xff, 0xd0, 0xe8, 0xfb, 0xff, 0xff, 0xff, 0xc3,
        ];
        let call = |returns_to, target| DirectCall { returns_to, target };
        assert_eq!(
            direct_calls(&code, 0x1000),
            [call(0x1005, 0x1005), call(0x100c, 0x1007)]
        );
    }
}
