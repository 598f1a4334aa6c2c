//! Runs a script's handlers inside the test process on an arena of its own.

use codegen::{
    Builder, Compiled, Context, HandlerId, Limits, Location, Resolution, Resolver, SiteText,
    TracerCode, Variable,
};
use runtime::layout::{RecordKind, Slot};
use script::ir::{Program, Target, TargetBase};
use script::span::{SourceFile, SourceMap};

/// Compiles a script to a program; panics with its diagnostics.
pub fn program(text: &str) -> Program {
    program_as(text, true)
}

/// The same with or without what `-u` leaves out.
pub fn program_as(text: &str, unoptimized: bool) -> Program {
    let mut sources = SourceMap::default();
    let user = sources.add(SourceFile {
        name: "<input>".into(),
        text: text.into(),
        is_tapset: false,
    });
    let options = script::compile::CompileOptions {
        last_pass: 5,
        guru: true,
        unoptimized,
        ..Default::default()
    };
    let compilation = script::compile::compile(sources, &[user], &options);
    let Some(mut program) = compilation.program else {
        panic!("{text}: {:#?}", compilation.diagnostics);
    };
    program.sources = compilation.sources;
    program
}

/// Registers of the first arguments, for `$a`, `$b`, ….
pub struct Arguments;

impl Resolver for Arguments {
    fn resolve(&self, target: &Target) -> Result<Resolution, codegen::Unresolved> {
        let TargetBase::Variable(name) = &target.base else {
            return Err("no such thing".into());
        };
        let number = match name.as_str() {
            "$a" => 7,
            "$b" => 6,
            "$narrow" => {
                return Ok(Resolution::Variable(Variable::plain(
                    Location::Register {
                        number: 7,
                        shift: 8,
                    },
                    1,
                    true,
                )));
            }
            "$memory" => {
                return Ok(Resolution::Variable(Variable::plain(
                    Location::Memory {
                        base: Some(3),
                        index: Some((1, 4)),
                        displacement: 8,
                        thread: false,
                    },
                    4,
                    false,
                )));
            }
            "$stack" => {
                return Ok(Resolution::Variable(Variable::plain(
                    Location::Memory {
                        base: Some(4),
                        index: None,
                        displacement: 16,
                        thread: false,
                    },
                    2,
                    true,
                )));
            }
            _ => return Err(format!("unable to find local {name}").into()),
        };
        Ok(Resolution::Variable(Variable::plain(
            Location::Register { number, shift: 0 },
            8,
            true,
        )))
    }
}

/// A probe's handler.
pub struct Handler {
    pub name: String,
    pub id: HandlerId,
    pub context: Context,
    pub site: u32,
}

/// A compiled script with its arena.
pub struct Session {
    pub compiled: Compiled,
    pub arena: memmap2::MmapMut,
    pub tracer: TracerCode,
    pub handlers: Vec<Handler>,
    tails: Vec<u64>,
    scratch: Vec<u8>,
}

/// What a run gave.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Output {
    pub text: String,
    pub errors: Vec<String>,
    pub warnings: Vec<String>,
}

pub fn small() -> Limits {
    Limits {
        slots: 32,
        ring_size: 1 << 16,
        processes: 2,
        ..Limits::default()
    }
}

impl Session {
    pub fn new(text: &str) -> Self {
        Self::with(text, &small())
    }

    pub fn with(text: &str, limits: &Limits) -> Self {
        Self::of(&program(text), limits)
    }

    pub fn of(program: &Program, limits: &Limits) -> Self {
        let context = |point: &script::ast::ProbePoint| match point.components[0].name.text.as_str()
        {
            "process" => Context::Process,
            _ => Context::Tracer,
        };
        let contexts: Vec<Vec<Context>> = program
            .probes
            .iter()
            .map(|p| p.points.iter().map(|p| context(&p.point)).collect())
            .collect();
        let mut builder = Builder::new(program, limits, &contexts);
        let mut handlers = Vec::new();
        for (index, probe) in program.probes.iter().enumerate() {
            for (number, point) in probe.points.iter().enumerate() {
                let name = point.point.components[0].name.text.clone();
                let context = context(&point.point);
                let id = builder
                    .handler(index, number, context, &Arguments)
                    .unwrap_or_else(|e| panic!("{e}"));
                let site = builder.site(SiteText {
                    pp: format!("{name}.test"),
                    function: "f".into(),
                    ..SiteText::default()
                });
                handlers.push(Handler {
                    name,
                    id,
                    context,
                    site,
                });
            }
        }
        let compiled = builder.finish();
        let size = compiled.layout().size as usize;
        let mut arena = memmap2::MmapMut::map_anon(size).unwrap();
        compiled.create_arena(&mut arena, 4711).unwrap();
        // SAFETY: the arena lives in the same struct, after which the code is dropped with it.
        let tracer = unsafe { compiled.link_tracer(arena.as_mut_ptr()) }.unwrap();
        Session {
            scratch: vec![0; limits.ring_size as usize],
            tails: vec![0; limits.slots as usize],
            compiled,
            arena,
            tracer,
            handlers,
        }
    }

    /// Runs the tracer's handlers of that name, in order.
    pub fn run(&mut self, name: &str) {
        for index in 0..self.handlers.len() {
            let handler = &self.handlers[index];
            if handler.name == name && handler.context == Context::Tracer {
                self.tracer.run(handler.id, handler.site).unwrap();
            }
        }
    }

    /// What stands in the rings.
    pub fn output(&mut self) -> Output {
        let mut output = Output::default();
        for slot in 0..self.tails.len() as u32 {
            let geometry = *self.tracer.geometry();
            let mut tail = self.tails[slot as usize];
            let report =
                runtime::ring::drain(&geometry, slot, &mut tail, &mut self.scratch, |record| {
                    let mut args = runtime::format::Args::new(record.payload);
                    if record.kind == RecordKind::Print as u16 {
                        let mut text = Text(Vec::new());
                        if record.id == 0 {
                            text.0.extend(args.string().unwrap());
                        } else {
                            // SAFETY: formats are constants.
                            let format = unsafe { runtime::format::at(&geometry.arena, record.id) };
                            runtime::format::render(
                                &geometry.arena,
                                format,
                                record.payload,
                                &mut text,
                            );
                        }
                        output.text.push_str(&String::from_utf8_lossy(&text.0));
                    } else if record.kind == RecordKind::Error as u16 {
                        args.long();
                        args.long();
                        let text = String::from_utf8_lossy(args.string().unwrap()).into_owned();
                        // Only error() has none.
                        assert!(
                            record.id == 0 || self.compiled.location(record.id as u32).is_some(),
                            "place of {text}"
                        );
                        output.errors.push(text);
                    } else if record.kind == RecordKind::Warn as u16 {
                        output
                            .warnings
                            .push(String::from_utf8_lossy(args.string().unwrap()).into_owned());
                    }
                });
            assert!(!report.damaged);
            self.tails[slot as usize] = tail;
        }
        output
    }

    /// A slot's words.
    pub fn slot(&self, index: u32) -> &Slot {
        // SAFETY: inside the arena, every bit pattern is a valid slot.
        unsafe { &*self.tracer.geometry().slot(index).unwrap() }
    }
}

struct Text(Vec<u8>);

impl runtime::format::Sink for Text {
    fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

/// What `probe begin { body }` prints; run-time errors are not allowed.
pub fn prints(body: &str) -> String {
    let output = run(&format!("probe begin {{ {body} }}"));
    assert_eq!(output.errors, Vec::<String>::new(), "{body}");
    output.text
}

/// What a script's begin and then end probes give.
pub fn run(text: &str) -> Output {
    let mut session = Session::new(text);
    session.run("begin");
    session.run("end");
    session.output()
}
