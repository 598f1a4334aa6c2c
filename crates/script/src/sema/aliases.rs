//! Pass: probe aliases. Expands every probe point to points that are no alias, with the statements that the aliases
//! put before and after the user's handler.

use std::borrow::Cow;
use std::rc::Rc;

use super::hir::Step;
use super::probe_points::{self, Place, glob};
use super::report::Finding;
use super::resolve::Resolver;
use crate::ast::{self, ProbePoint};

/// How deep aliases may stand in each other.
const DEEPEST: usize = 100;

/// A point without aliases.
pub struct Expanded {
    /// The point.
    pub point: ProbePoint,
    /// Where its handler runs.
    pub place: Place,
    /// The levels, the user's first.
    pub via: Vec<Step>,
    /// The aliases behind it, the user's first.
    pub aliases: Vec<Rc<ast::Alias>>,
    /// Conditions of all levels.
    pub conditions: Vec<ast::Expr>,
}

impl Expanded {
    /// The handler: the aliases' prologues, the user's statements, the aliases' epilogues.
    pub fn handler<'a>(&self, user: &'a ast::Stmt) -> Cow<'a, ast::Stmt> {
        if self.aliases.is_empty() {
            return Cow::Borrowed(user);
        }
        let mut body = user.clone();
        for alias in &self.aliases {
            let mut list = vec![body];
            if alias.epilogue {
                list.push(alias.body.clone());
            } else {
                list.insert(0, alias.body.clone());
            }
            list.extend(alias.tail.clone());
            body = ast::Stmt {
                kind: ast::StmtKind::Block(list),
                span: user.span,
            };
        }
        Cow::Owned(body)
    }
}

/// Expands one point of a user's probe. What is wrong is reported, unless the point is optional.
pub fn expand(resolver: &mut Resolver, point: &ProbePoint) -> Vec<Expanded> {
    let mut found = Vec::new();
    let mut problems = Vec::new();
    level(resolver, point, &mut Vec::new(), &mut found, &mut problems);
    let wild = point
        .components
        .iter()
        .any(|c| c.name.text.contains(['*', '?']));
    let forgiven = point.optional || point.sufficient || (wild && !found.is_empty());
    if !forgiven {
        for problem in problems {
            resolver.report.push(problem);
        }
    }
    found
}

/// A step of an expansion: the level, its alias, and the condition of the point that named it.
type Above = (Step, Rc<ast::Alias>, Option<ast::Expr>);

fn expanded(point: ProbePoint, place: Place, above: &[Above]) -> Expanded {
    let mut conditions: Vec<ast::Expr> = above.iter().filter_map(|(_, _, c)| c.clone()).collect();
    conditions.extend(point.condition.as_deref().cloned());
    Expanded {
        point,
        place,
        via: above.iter().map(|(s, _, _)| s.clone()).collect(),
        aliases: above.iter().map(|(_, a, _)| Rc::clone(a)).collect(),
        conditions,
    }
}

fn level(
    resolver: &mut Resolver,
    point: &ProbePoint,
    above: &mut Vec<Above>,
    found: &mut Vec<Expanded>,
    problems: &mut Vec<Finding>,
) {
    let Some(first) = point.components.first() else {
        return;
    };
    let while_resolving = Finding::error("while resolving probe point", first.name.span);
    for file in resolver.library.files_of_alias(&first.name.text) {
        resolver.pull(file);
    }
    let matches = matching(&resolver.aliases, point);
    if matches.is_empty() {
        let partial: Vec<String> = continuations(&resolver.aliases, point);
        let words: Vec<String> = resolver
            .aliases
            .iter()
            .flat_map(|a| &a.names)
            .filter_map(|n| n.components.first())
            .map(|c| c.name.text.clone())
            .chain(resolver.library.alias_names().map(str::to_string))
            .collect();
        let concrete = probe_points::concrete(point);
        if !concrete.is_empty() {
            for (point, place) in concrete {
                found.push(expanded(point, place, above));
            }
            return;
        }
        match probe_points::validate(point, words.iter().map(String::as_str)) {
            Ok(place) => found.push(expanded(point.clone(), place, above)),
            Err(wrong) => {
                problems.push(while_resolving);
                const TRUNCATED: &str = "probe point truncated (follow:  ";
                let diagnostic = if partial.is_empty() {
                    match wrong.span {
                        Some(span) => Finding::error(wrong.message, span),
                        None => Finding::error_nowhere(wrong.message),
                    }
                } else {
                    // What may follow the point of that name, and what follows in aliases.
                    let own = wrong.message.strip_prefix(TRUNCATED);
                    let own = own
                        .and_then(|rest| rest.strip_suffix(')'))
                        .unwrap_or_default();
                    let mut words: Vec<&str> = own.split_whitespace().collect();
                    words.extend(partial.iter().map(String::as_str));
                    words.sort_unstable();
                    words.dedup();
                    Finding::error(format!("{TRUNCATED}{})", words.join(" ")), first.name.span)
                };
                problems.push(diagnostic.following());
            }
        }
        return;
    }
    // An alias does not hide the point of its name.
    let mut own = false;
    if above.is_empty()
        && (matches.iter()).all(|(_, used)| *used == point.components.len())
        && let Ok(place) = probe_points::validate(point, [])
    {
        found.push(expanded(point.clone(), place, above));
        own = true;
    }
    for (alias, used) in matches {
        if above.len() >= DEEPEST || above.iter().any(|(_, a, _)| Rc::ptr_eq(a, &alias)) {
            problems.push(while_resolving.clone());
            problems.push(
                Finding::error_nowhere(format!(
                    "recursive loop in alias expansion of {} at {}",
                    first.name.text,
                    resolver.sources.location(first.name.span)
                ))
                .following(),
            );
            continue;
        }
        let step = Step {
            names: alias.names.clone(),
            epilogue: alias.epilogue,
            points: alias.points.clone(),
            used: without_wildcards(point, &alias, used),
        };
        let condition = point.condition.as_deref().cloned();
        above.push((step, Rc::clone(&alias), condition));
        let before = found.len();
        let mut inner_problems = Vec::new();
        for target in &alias.points {
            let mut target = target.clone();
            let suffix = &point.components[used..];
            if let (Some(a), Some(b)) = (suffix.first(), suffix.last()) {
                target.span = target.span.to(a.name.span).to(b.name.span);
            }
            target.components.extend(suffix.iter().cloned());
            target.optional |= point.optional;
            let (start, failed) = (found.len(), inner_problems.len());
            level(resolver, &target, above, found, &mut inner_problems);
            // Whether a point in a process is there is only known when processes are looked at.
            let is_sure = found.iter().skip(start).any(|e| e.place == Place::Session);
            if target.sufficient && is_sure {
                break;
            }
            if (target.optional || target.sufficient) && found.len() == start {
                inner_problems.drain(failed..);
            }
        }
        above.pop();
        if !inner_problems.is_empty() && used < point.components.len() && found.len() == before {
            // What is wrong is the suffix that the user wrote.
            problems.push(while_resolving.clone());
            let causes = inner_problems.drain(..).filter(|f| f.follows());
            problems.extend(causes);
        } else if !inner_problems.is_empty() || found.len() == before {
            problems.append(&mut inner_problems);
            if found.len() == before {
                problems.push(while_resolving.clone());
                problems.push(Finding::error_nowhere("no match").following());
            }
        }
    }
    // stap shows it last.
    if own {
        found.rotate_left(1);
    }
}

/// The point with the alias's own words where it has wildcards.
fn without_wildcards(point: &ProbePoint, alias: &ast::Alias, used: usize) -> ProbePoint {
    let names = &mut alias.names.iter();
    let Some(name) = names.find(|name| covered(point, name) == Some(used)) else {
        return point.clone();
    };
    let rest = point.components.get(used..).unwrap_or_default();
    ProbePoint {
        components: [&name.components, rest].concat(),
        ..point.clone()
    }
}

/// The aliases that a point names, each with how many of the point's components are the name. Aliases that are named
/// in full come before those that leave a suffix over.
fn matching(aliases: &[Rc<ast::Alias>], point: &ProbePoint) -> Vec<(Rc<ast::Alias>, usize)> {
    let mut best = 0;
    let mut found: Vec<(Rc<ast::Alias>, usize)> = Vec::new();
    for alias in aliases {
        for name in &alias.names {
            let n = name.components.len();
            if n == 0 || n < best {
                continue;
            }
            let Some(used) = covered(point, name) else {
                continue;
            };
            if n > best && !has_deep_wildcard(point) {
                found.clear();
                best = n;
            }
            found.push((Rc::clone(alias), used));
        }
    }
    found
}

fn has_deep_wildcard(point: &ProbePoint) -> bool {
    point.components.iter().any(|c| c.name.text.contains("**"))
}

/// How many of the point's components are the alias's name, if they are. A `**` covers points between words, too.
fn covered(point: &ProbePoint, name: &ProbePoint) -> Option<usize> {
    let mut words = name.components.as_slice();
    for (used, component) in point.components.iter().enumerate() {
        let Some((first, rest)) = words.split_first() else {
            return Some(used);
        };
        if component.arg.is_some() {
            return None;
        }
        if component.name.text.contains("**") {
            let dotted: Vec<&str> = words.iter().map(|c| c.name.text.as_str()).collect();
            let covers = |n: usize| glob(&component.name.text, &dotted[..n].join("."));
            if used > 0 || point.components.len() == 1 {
                return covers(dotted.len()).then_some(used + 1);
            }
            // In front it leaves words to what follows it.
            let rest = ProbePoint {
                components: point.components[1..].to_vec(),
                ..point.clone()
            };
            return (1..dotted.len()).filter(|n| covers(*n)).find_map(|n| {
                let words = ProbePoint {
                    components: words[n..].to_vec(),
                    ..name.clone()
                };
                Some(covered(&rest, &words)? + 1)
            });
        }
        if !glob(&component.name.text, &first.name.text) {
            return None;
        }
        words = rest;
    }
    words.is_empty().then_some(point.components.len())
}

/// The words that would turn the point into an alias.
fn continuations(aliases: &[Rc<ast::Alias>], point: &ProbePoint) -> Vec<String> {
    let n = point.components.len();
    let mut words: Vec<String> = aliases
        .iter()
        .flat_map(|a| &a.names)
        .filter(|name| name.components.len() > n)
        .filter(|name| {
            point
                .components
                .iter()
                .zip(&name.components)
                .all(|(c, a)| c.arg.is_none() && glob(&c.name.text, &a.name.text))
        })
        .map(|name| name.components[n].name.text.clone())
        .collect();
    words.sort();
    words.dedup();
    words
}
