//! One run of one script: which processes, when to patch, timers, draining rings, formatting, exit statuses.
//! Knows nothing of command lines or of PCP.

mod arena;
mod build_id;
mod callees;
mod code_sites;
mod commands;
mod discovery;
mod drain;
mod ending;
mod events;
mod following;
mod function_list;
mod input;
mod list;
mod message;
mod monitor;
mod monitor_view;
mod notices;
mod options;
mod outlet;
mod output;
mod perf;
mod plan;
mod probe_point;
mod procfs;
mod programs;
mod reclaim;
mod records;
mod resolve;
mod returns;
mod run;
mod sampling;
mod signals;
mod source_place;
mod stack_names;
mod stacks;
mod system_calls;
mod thread_signal;
mod timer;
mod timing;
mod tracee;
mod usage;
mod variables;
mod wordexp;
mod zone;

pub use codegen::Limits;
pub use options::{ListStyle, Options, Target};
pub use resolve::find_executable;
pub use usage::Usage;
pub use wordexp::split as split_command;

use codegen::Resolver as _;
use output::Output;
use rayon::prelude::*;
use script::diagnostic::Diagnostic;
use script::ir::Program;
use script::sema::unplaced::{Definition, Unplaced};
use script::span::Span;
use std::io::{self, Write as _};
use std::rc::Rc;

/// Why a session could not be run.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The process or its code.
    #[error(transparent)]
    Tracee(#[from] tracee::TraceeError),
    /// Handlers could not be linked.
    #[error(transparent)]
    Link(#[from] codegen::LinkError),
    /// The arena could not be made.
    #[error(
        "no memory for the session's arena: {0}; smaller -D MAXMAPENTRIES, SPILE_THREADS or SPILE_RING make it smaller"
    )]
    Arena(io::Error),
    /// The arena's head contradicts itself.
    #[error(
        "the session's arena has no valid layout; the limits given with -D may be out of proportion"
    )]
    Layout,
    /// Output could not be written.
    #[error("cannot write output: {0}")]
    Output(io::Error),
    /// A system call that should not fail.
    #[error("{0}")]
    System(io::Error),
    /// `--monitor` without a terminal.
    #[error("--monitor needs a terminal to show itself on: {0}")]
    Monitor(io::Error),
    /// The files of `procfs` probes can't be made.
    #[error(transparent)]
    Files(#[from] procfs::FilesError),
    /// `-c` without a word in it.
    #[error("-c wants a command")]
    EmptyCommand,
}

/// Runs a program's session to its end, or lists its probe points. The result is the exit status.
///
/// # Errors
/// What keeps the session from running: the target, memory, output. Errors of the script are printed as stap prints
/// them, with status 1.
pub fn run(program: &Program, options: &Options) -> Result<u8, SessionError> {
    if let Some(style) = options.list {
        return list(program, options, style);
    }
    let tracee = run::hold_target(&options.target).inspect_err(|_| tell_notes(program, options))?;
    let start = Usage::now();
    let scope = tracee.as_ref().map(tracee::Tracee::scope);
    let plan = std::thread::scope(|threads| {
        // Large programs take as long to look at for branch targets as for names.
        if let Some(tracee) = &tracee
            && let Some(extent) = plan::extent(program)
        {
            let images = tracee.images().to_vec();
            threads.spawn(move || look_ahead(&images, extent));
        }
        plan::compile(program, options, scope)
    });
    let mut plan = match plan {
        Ok(plan) => plan,
        Err(errors) => {
            report(program, options, &errors);
            return Ok(1);
        }
    };
    tell_notes(program, options);
    let mut output = Output::new(options).map_err(SessionError::Output)?;
    if options.verbose > 0 {
        let sites = plan.site_count();
        output.say(&format!(
            "Pass 3: translated to machine code: {sites} probe {} using {}.",
            if sites == 1 { "site" } else { "sites" },
            start.spent()
        ));
    }
    for warning in std::mem::take(&mut plan.warnings) {
        output.warn(&warning);
    }
    if options.pass == 3 {
        output.print(plan.compiled.text().as_bytes());
        output.flush();
    }
    if options.pass < 5 {
        return Ok(0);
    }
    if options.verbose > 0 {
        output.say("Pass 5: starting run.");
    }
    let start = Usage::now();
    let status = run::Run::new(program, options, plan, tracee, output)?.run()?;
    if options.verbose > 0 {
        // Standard error may be a closed pipe.
        let _ = writeln!(io::stderr(), "Pass 5: run completed in {}.", start.time());
    }
    Ok(status)
}

/// Looks at the code of a process, while its probes are compiled, for what is needed to place them.
fn look_ahead(images: &[inject::Image], extent: plan::Extent) {
    if let Some(program) = images.first() {
        match extent {
            plan::Extent::Libraries | plan::Extent::Everywhere => {}
            plan::Extent::Places => program.prepare(&[]),
            plan::Extent::Wide => program.analyse(),
        }
    }
    // As much as may come to be watched.
    let watch = inject::Watch {
        forks: true,
        execs: true,
        filters: true,
        memory_locks: true,
        ..inject::Watch::default()
    };
    images.par_iter().for_each(|image| {
        if extent == plan::Extent::Everywhere {
            image.system_calls();
        }
        image.prepare_watch(watch);
    });
}

/// What is told of the points that cannot be found among those of elided probes, by the number of the probe: of a script that
/// has other errors, too ([`script::sema::unplaced`]). Points of the program of `-c` are not looked for.
pub fn missing_points(program: &Program) -> Vec<(usize, Vec<Diagnostic>)> {
    let mut files = programs::Files::default();
    let mut missing = plan::missing_of_elided(program, None, &mut files).unwrap_or_default();
    missing.retain(|(probe, _)| {
        let points = program.elided.get(*probe).into_iter().flatten();
        let mut kinds = points.filter_map(|p| probe_point::understand(&p.point).ok());
        !kinds.any(|kind| kind.program() == Some(&probe_point::Program::Target))
    });
    missing
}

/// Whether the target expressions mean something that stand in `@defined` in a script whose types do not agree: stap looks
/// them up before it looks at types, so that parts which are never reached need not agree with others. Nothing is told
/// of those that mean something only at some of the places of a point.
pub fn definitions(unplaced: &Unplaced) -> Vec<Definition> {
    let mut files = programs::Files::default();
    let mut known: Vec<(Option<Span>, Span, Option<bool>)> = Vec::new();
    for (handler, points) in unplaced.program.elided.iter().enumerate() {
        let questions = unplaced.questions.iter();
        let questions: Vec<_> = questions.filter(|q| q.handler == handler).collect();
        if questions.is_empty() {
            continue;
        }
        for point in points {
            let Ok(kind) = probe_point::understand(&point.point) else {
                continue;
            };
            let found = files.resolve(&kind, &point.point, None);
            for (scope, sites) in found.unwrap_or_default() {
                let _together = scope.acquaint();
                for site in &sites {
                    let resolver =
                        variables::SiteResolver::new(&site.variables, site.address, Rc::default())
                            .called_from(&site.callers);
                    for question in &questions {
                        let at = (!question.in_function).then_some(point.point.span);
                        let place = question.target.span;
                        let means = resolver.resolve(&question.target).is_ok();
                        let mut earlier = known.iter_mut();
                        match earlier.find(|(p, q, _)| (*p, *q) == (at, place)) {
                            Some((.., answer)) => *answer = answer.filter(|a| *a == means),
                            None => known.push((at, place, Some(means))),
                        }
                    }
                }
            }
        }
    }
    let certain = |(point, place, answer): (Option<Span>, Span, Option<bool>)| {
        Some(Definition {
            point,
            place,
            known: answer?,
        })
    };
    known.into_iter().filter_map(certain).collect()
}

/// Hands `print` a function that says what a probe point resolves to (for `-p2`); `None` for points that stand for
/// themselves. The result is the exit status.
///
/// # Errors
/// As for [`run`].
pub fn elaborate(
    program: &Program,
    options: &Options,
    print: impl FnOnce(&mut dyn FnMut(&script::ast::ProbePoint) -> Option<Vec<String>>),
) -> Result<u8, SessionError> {
    // Whoever only looks at a script has no need of a target, unless its points are there.
    let tracee = run::hold_target(&options.target).unwrap_or_default();
    let scope = tracee.as_ref().map(tracee::Tracee::scope);
    if let Err(errors) = plan::compile(program, options, scope) {
        report(program, options, &errors);
        return Ok(1);
    }
    tell_notes(program, options);
    let mut files = programs::Files::default();
    print(&mut |point| list::matches(point, scope, &mut files));
    Ok(0)
}

fn list(program: &Program, options: &Options, style: ListStyle) -> Result<u8, SessionError> {
    let tracee = run::hold_target(&options.target)?;
    let points = match plan::points(program) {
        Ok(points) => points,
        Err(errors) => {
            if options.verbose > 0 {
                report(program, options, &errors);
            }
            return Ok(1);
        }
    };
    let lines = list::lines(
        program,
        &points,
        tracee.as_ref().map(tracee::Tracee::scope),
        style,
    );
    let mut output = Output::new(options).map_err(SessionError::Output)?;
    for line in &lines {
        output.print(line.as_bytes());
        output.print(b"\n");
    }
    output.flush();
    match output.failure() {
        Some(error) => Err(SessionError::Output(error)),
        None => Ok(u8::from(lines.is_empty())),
    }
}

fn tell_notes(program: &Program, options: &Options) {
    tell(program, options, &options.notes);
}

/// Tells errors as stap does, which goes on to look at what handlers do only when all points are found.
fn report(program: &Program, options: &Options, errors: &[Diagnostic]) {
    let is_missing = errors.iter().any(plan::is_point_error);
    let (placed, general): (Vec<_>, Vec<_>) = (options.notes.iter())
        .cloned()
        .partition(|note| note.primary.is_some());
    let mut told = if is_missing { Vec::new() } else { placed };
    told.extend_from_slice(errors);
    told.extend(general);
    tell(program, options, &told);
}

fn tell(program: &Program, options: &Options, errors: &[Diagnostic]) {
    eprint!(
        "{}",
        script::messages::render(errors, &program.sources, options.verbose > 0, options.color)
    );
}
