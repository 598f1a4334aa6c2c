//! Evaluation over time: tasks by their intervals, and what is printed of them.

use std::io::Write;
use std::time::Duration;

use pcp::timewindow::TimeWindow;
use pcp::timezone::Zone;
use pcp::{Timestamp, debug};

use super::action::Actor;
use super::ast::{Body, Expr, Form, Kind, Statement};
use super::embedded::{self, Agent};
use super::eval::{Binding, Evaluator};
use super::set::{Set, Val, shown};
use super::source::Sources;
use super::stats::{Counts, Stats};

/// What is printed of expressions.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Verbosity {
    /// Nothing.
    #[default]
    Silent,
    /// `-v`: values.
    Values,
    /// `-V`: values with hosts and instances.
    Annotated,
    /// `-W`: as `-V`, but of truths what makes them true.
    Satisfying,
}

/// How many evaluations that were missed are made up for; where it is more, they are left out.
const CATCH_UP: i128 = 10;

/// When to look first for hosts and metrics that are not there.
const RETRY: Timestamp = Timestamp { sec: 5, nsec: 0 };

/// Statements that are evaluated together.
struct Task {
    delta: Timestamp,
    next: Timestamp,
    /// Of tasks that are due at one time that with the greatest goes first: that which was put in last.
    turn: i64,
    statements: Vec<usize>,
    metrics: Vec<usize>,
    /// How long it was waited last for what is missing; 0 when nothing was.
    retried: Timestamp,
}

impl Task {
    /// When to look again for what is missing: sooner than the task is due by itself, and less often each time.
    fn retry(&self) -> Timestamp {
        let retry = match self.retried {
            Timestamp::ZERO => RETRY,
            before => before + before,
        };
        retry.min(self.delta)
    }

    /// The task as it is about to be evaluated (`-Dappl2`).
    fn trace(&self, number: usize, missing: bool, engine: &Engine) {
        let zone = &engine.zone;
        eprintln!(
            "Evaluating task:\nTask dump @ {:#x}",
            std::ptr::from_ref(self) as usize
        );
        eprintln!(
            "  nth={number} delta={:.3} tick=0 next=(nil) prev=(nil)\n  eval time: {}",
            self.delta.as_secs_f64(),
            zone.date(self.next, 6)
        );
        if missing {
            let retry = self.retry().as_secs_f64();
            eprintln!("  retry delta: {retry:.3} host:  metric/instances missing");
        }
        eprintln!("  via={} (up)\n  rules:", engine.sources.via(&self.metrics));
        for at in &self.statements {
            if let Some(statement) = engine.statements.get(*at) {
                eprintln!("    {}", statement.name);
            }
        }
    }
}

/// How an engine works and what it says.
pub struct Style {
    /// What is printed.
    pub verbosity: Verbosity,
    /// Whether values alone are printed, a line for all of one time (`-X`).
    pub applet: bool,
    /// Whom values are for instead (`-x`).
    pub agent: Option<Agent>,
    /// Whether times are printed in any case.
    pub stamped: bool,
    /// Whether it waits for its times to come, and does what rules say.
    pub live: bool,
    /// Where the configuration of the stomp action is.
    pub stomp: Option<String>,
    /// Where it says how it goes.
    pub stats: Option<Stats>,
}

/// Everything that evaluation needs.
pub struct Engine {
    /// Where values come from.
    pub sources: Sources,
    /// What is evaluated.
    pub statements: Vec<Statement>,
    /// From when to when.
    pub window: TimeWindow,
    /// In which times are told.
    pub zone: Zone,
    /// What is printed.
    pub verbosity: Verbosity,
    applet: bool,
    agent: Option<Agent>,
    stamped: bool,
    live: bool,
    stomp: Option<String>,
    stats: Option<Stats>,
}

fn metrics_of(expr: &Expr, found: &mut Vec<usize>) {
    match &expr.form {
        Form::Fetch { metrics, .. } => found.extend(metrics),
        Form::Negate(e)
        | Form::Not(e)
        | Form::Rate(e)
        | Form::Rising(e)
        | Form::Falling(e)
        | Form::Reduce(_, _, e)
        | Form::Match(_, _, e) => metrics_of(e, found),
        Form::Binary(_, left, right) => {
            metrics_of(left, found);
            metrics_of(right, found);
        }
        Form::Number(_) | Form::Text(_) | Form::Truth(_) | Form::Delta(_) | Form::Clock(_) => {}
    }
}

impl Statement {
    fn metrics(&self, found: &mut Vec<usize>) {
        match &self.body {
            Body::Expr(expr) | Body::Rule(expr, _) => metrics_of(expr, found),
            Body::Rules { rules, .. } => {
                for (expr, _) in rules {
                    metrics_of(expr, found);
                }
            }
        }
    }
}

impl Engine {
    /// An engine that stands at the start of its window.
    pub fn new(
        sources: Sources,
        statements: Vec<Statement>,
        window: TimeWindow,
        zone: Zone,
        style: Style,
    ) -> Engine {
        Engine {
            sources,
            statements,
            window,
            zone,
            verbosity: style.verbosity,
            applet: style.applet,
            agent: style.agent,
            stamped: style.stamped,
            live: style.live,
            stomp: style.stomp,
            stats: style.stats,
        }
    }

    /// Whether there is nothing to evaluate.
    pub fn is_empty(&self) -> bool {
        self.statements.is_empty()
    }

    fn tasks(&self) -> Vec<Task> {
        let mut tasks: Vec<Task> = Vec::new();
        for (at, statement) in self.statements.iter().enumerate() {
            let mut metrics = Vec::new();
            statement.metrics(&mut metrics);
            // Statements that follow each other and have one interval are evaluated together.
            match tasks.last_mut().filter(|t| t.delta == statement.delta) {
                Some(task) => {
                    task.statements.push(at);
                    task.metrics.extend(metrics);
                }
                None => tasks.push(Task {
                    delta: statement.delta,
                    next: self.window.origin,
                    turn: -(tasks.len() as i64),
                    statements: vec![at],
                    metrics,
                    retried: Timestamp::ZERO,
                }),
            }
        }
        tasks
    }

    /// What made it impossible to go on.
    pub fn fatal(&mut self) -> Option<String> {
        self.sources.fatal.take()
    }

    /// Evaluates until the window ends.
    pub fn run(&mut self) {
        let mut tasks = self.tasks();
        let mut turns = 0;
        let mut evaluator = Evaluator::new(self.zone.clone());
        let mut actor = Actor::new(!self.live, self.zone.clone(), self.stomp.clone());
        if let Some(agent) = &self.agent
            && agent.describe(&self.statements, &self.sources).is_err()
        {
            return;
        }
        loop {
            let due = tasks.iter_mut().enumerate();
            let due = due.min_by_key(|(_, task)| (task.next, -task.turn));
            let Some((number, task)) = due else {
                return;
            };
            turns += 1;
            task.turn = turns;
            let time = task.next;
            if time > self.window.end {
                if self.live && self.window.end != Timestamp::MAX {
                    wait_until(self.window.end);
                }
                return;
            }
            if self.live {
                wait_until(time);
            }
            let missing = self.live && self.sources.lacks(&task.metrics);
            if debug::on(debug::Flag::Appl2) {
                task.trace(number, missing, self);
            }
            self.sources.update(&task.metrics, time);
            if self.sources.fatal.is_some() {
                return;
            }
            for at in &task.statements {
                let Some(statement) = self.statements.get(*at) else {
                    continue;
                };
                evaluate(&mut evaluator, &mut actor, statement, &self.sources, time);
                if let Some(stats) = &mut self.stats {
                    count(&mut stats.counts, &evaluator, statement);
                }
            }
            if let Some(stats) = &self.stats {
                // Nobody's evaluation depends on it.
                let _ = stats.write();
            }
            if let Some(agent) = &self.agent {
                let of_task = task.statements.iter();
                let of_task = of_task.filter_map(|at| Some((*at, self.statements.get(*at)?)));
                if agent.tell(of_task, &evaluator).is_err() {
                    return;
                }
            } else if self.applet {
                for at in &task.statements {
                    if let Some(statement) = self.statements.get(*at) {
                        embedded::print(&evaluator, statement);
                    }
                }
                println!();
            } else if self.verbosity != Verbosity::Silent {
                for at in &task.statements {
                    if let Some(statement) = self.statements.get(*at) {
                        self.print(&evaluator, statement, time);
                    }
                }
                println!();
            }
            // Whoever reads has had enough.
            if std::io::stdout().flush().is_err() {
                return;
            }
            if self.live && self.sources.lacks(&task.metrics) {
                task.retried = task.retry();
                task.next = time + task.retried;
                continue;
            }
            task.retried = Timestamp::ZERO;
            task.next = time + task.delta;
            if self.live {
                let late = (Timestamp::now() - task.next).as_nanos();
                let steps = late / task.delta.as_nanos().max(1);
                if steps > CATCH_UP {
                    task.next = task.next + Timestamp::from_nanos(steps * task.delta.as_nanos());
                }
            }
        }
    }

    fn print(&self, evaluator: &Evaluator, statement: &Statement, time: Timestamp) {
        let stamp = if self.live && !self.stamped {
            String::new()
        } else {
            format!(" ({})", self.zone.civil(time.sec).ctime())
        };
        print!("{}{stamp}: ", statement.name);
        let satisfying = self.verbosity == Verbosity::Satisfying;
        let expr = match &statement.body {
            Body::Expr(expr) => expr,
            Body::Rule(expr, _) if satisfying => expr,
            Body::Rule(expr, _) => {
                let truth = evaluator.result(expr).map_or(&Val::Missing, Set::first);
                println!("{}", shown(truth, Kind::Truth));
                return;
            }
            Body::Rules {
                rules, otherwise, ..
            } => {
                let truth = rules_truth(evaluator, rules, otherwise.is_some());
                if !satisfying || truth == Val::Missing {
                    println!("{}", shown(&truth, Kind::Truth));
                    return;
                }
                println!();
                let holds = |expr: &&Expr| {
                    evaluator.result(expr).map(Set::first) == Some(&Val::Truth(true))
                };
                if let Some(expr) = rules.iter().map(|(expr, _)| expr).find(holds) {
                    self.print_bindings(evaluator, expr);
                }
                return;
            }
        };
        let none = Set::single(Val::Missing);
        let set = evaluator.result(expr).unwrap_or(&none);
        let unknown = || set.expected == 0 && !set.is_known();
        if !set.valid || set.rows.is_empty() || unknown() {
            let words = match set.expected {
                0 => "?".to_owned(),
                count => vec![shown(&Val::Missing, expr.kind); count].join(" "),
            };
            println!("{words}");
            return;
        }
        if self.verbosity == Verbosity::Values || set.rows.iter().all(|row| row.host.is_none()) {
            let values = set.rows.iter().flat_map(|row| &row.values);
            let words: Vec<String> = values.map(|v| shown(v, expr.kind)).collect();
            println!("{}", words.join(" "));
            return;
        }
        println!();
        if satisfying && expr.kind == Kind::Truth {
            self.print_bindings(evaluator, expr);
            return;
        }
        for row in &set.rows {
            let words: Vec<String> = row.values.iter().map(|v| shown(v, expr.kind)).collect();
            let inst = row.inst.as_ref().map(|i| &i.1);
            println!("{}{}", self.row(row.host, inst), words.join(" "));
        }
    }

    /// What makes a condition true.
    fn print_bindings(&self, evaluator: &Evaluator, condition: &Expr) {
        for binding in evaluator.bindings(condition) {
            let row = self.row(binding.host, binding.inst.as_ref());
            println!("{row}{}", binding.shown());
        }
    }

    /// What stands in front of a value: its host and instance.
    fn row(&self, host: Option<usize>, inst: Option<&pcp::Text>) -> String {
        let host = host.and_then(|h| self.sources.host(h));
        let mut text = format!("    {}: ", host.map_or("", |h| &h.name));
        if let Some(inst) = inst {
            text.push_str(&format!("[{inst}] "));
        }
        text
    }
}

/// The truth of rules as a whole: whether something was done because of them.
fn rules_truth(
    evaluator: &Evaluator,
    rules: &[(Expr, super::ast::Action)],
    otherwise: bool,
) -> Val {
    let truths: Vec<&Val> = rules
        .iter()
        .map(|(expr, _)| evaluator.result(expr).map_or(&Val::Missing, Set::first))
        .collect();
    if truths.iter().all(|v| **v == Val::Missing) {
        Val::Missing
    } else {
        Val::Truth(otherwise || truths.contains(&&Val::Truth(true)))
    }
}

fn wait_until(time: Timestamp) {
    let wait = (time - Timestamp::now()).as_nanos();
    if let Ok(wait @ 1..) = u64::try_from(wait) {
        std::thread::sleep(Duration::from_nanos(wait));
    }
}

/// Counts an evaluation that was done.
fn count(counts: &mut Counts, evaluator: &Evaluator, statement: &Statement) {
    let mut condition = |expr: &Expr| {
        counts.evaluated += 1;
        let truth = evaluator.result(expr).map_or(&Val::Missing, Set::first);
        match truth {
            Val::Truth(true) => {
                counts.truths += 1;
                counts.actions += 1;
            }
            Val::Missing => counts.unknown += 1,
            _ => counts.falsehoods += 1,
        }
    };
    match &statement.body {
        Body::Expr(_) => counts.evaluated += 1,
        Body::Rule(expr, _) => condition(expr),
        Body::Rules { rules, .. } => rules.iter().for_each(|(expr, _)| condition(expr)),
    }
}

fn evaluate(
    evaluator: &mut Evaluator,
    actor: &mut Actor,
    statement: &Statement,
    sources: &Sources,
    time: Timestamp,
) {
    match &statement.body {
        Body::Expr(expr) => {
            evaluator.evaluate(expr, sources, time);
        }
        Body::Rule(condition, action) => {
            let set = evaluator.evaluate(condition, sources, time);
            if *set.first() == Val::Truth(true) {
                let bindings = evaluator.bindings(condition);
                actor.act(action, &bindings, sources, time);
            }
        }
        Body::Rules {
            rules,
            unknown,
            otherwise,
        } => {
            let mut all_unknown = true;
            let mut followed: Option<(&super::ast::Action, Vec<Binding>)> = None;
            // All conditions are evaluated, so that each knows what was before.
            for (condition, action) in rules {
                let set = evaluator.evaluate(condition, sources, time);
                all_unknown &= *set.first() == Val::Missing;
                if followed.is_none() && *set.first() == Val::Truth(true) {
                    followed = Some((action, evaluator.bindings(condition)));
                }
            }
            if let Some((action, bindings)) = followed {
                actor.act(action, &bindings, sources, time);
            } else if let (true, Some(action)) = (all_unknown, unknown) {
                actor.act(action, &[], sources, time);
            } else if let Some(action) = otherwise {
                actor.act(action, &[], sources, time);
            }
        }
    }
}
