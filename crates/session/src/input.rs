//! Standard input, of which `input.char` and `input.line` probes hear byte by byte.

use crate::plan::Plan;
use crate::probe_point::Kind;
use crate::run::Run;
use codegen::HandlerId;

/// How much is read at a time.
const CHUNK: usize = 4096;

/// The register that a byte is given in: `rdi`, by its number in instructions.
const BYTE: usize = 7;

/// The probes that hear of input.
#[derive(Debug)]
pub(crate) struct Input {
    probes: Vec<(HandlerId, u32)>,
}

impl Input {
    /// Those of a plan, if there are any.
    pub fn wanted(plan: &Plan<'_>) -> Option<Input> {
        let probes = plan.tracer.iter().filter(|p| p.kind == Kind::Input);
        let probes: Vec<_> = probes.map(|p| (p.handler, p.number)).collect();
        (!probes.is_empty()).then_some(Input { probes })
    }

    /// Their handlers and the numbers of their sites.
    pub fn probes(&self) -> impl Iterator<Item = (HandlerId, u32)> + '_ {
        self.probes.iter().copied()
    }

    /// What has come; nothing when the input has ended.
    pub fn read() -> Option<Vec<u8>> {
        let mut bytes = vec![0; CHUNK];
        let count = rustix::io::read(rustix::stdio::stdin(), &mut bytes).unwrap_or(0);
        bytes.truncate(count);
        (count > 0).then_some(bytes)
    }

    /// The registers that a handler finds a byte in.
    pub fn registers(byte: u8) -> [u64; 18] {
        let mut registers = [0; 18];
        registers[BYTE] = byte.into();
        registers
    }
}

impl Run<'_> {
    /// Runs the `input` probes for what has come.
    pub(crate) fn take_input(&mut self) {
        let Some(input) = self.input.take() else {
            return;
        };
        let Some(bytes) = Input::read() else {
            return;
        };
        for byte in bytes {
            for (handler, number) in input.probes() {
                let result =
                    self.tracer
                        .run_sampled(handler, number, &Input::registers(byte), [0; 3]);
                self.note_failure(result);
                self.drain();
                if self.ended().is_some() {
                    return;
                }
            }
        }
        self.input = Some(input);
    }
}
