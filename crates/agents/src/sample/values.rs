//! What the metrics of `sample` say when they are fetched.

use std::time::Instant;

use bytes::Bytes;
use pcp::{Atom, Desc, ErrorCode, InDom, Timestamp, Type};
use pmda::{Caller, Values};

use super::{FAMILY, GHOSTS, Sample, ScaleStep, events};

impl Sample {
    fn seconds(&self) -> u64 {
        self.start.elapsed().as_secs()
    }

    /// Adds to a counter, and gives it.
    fn count(&mut self, item: u32, more: u64) -> u64 {
        let counter = self.counters.entry(item).or_default();
        *counter = counter.wrapping_add(more);
        *counter
    }

    fn bins(&self, ty: Type, of: impl Fn(usize) -> Option<(i32, i32)>) -> Values {
        let values = (0..self.bins.len()).filter_map(|at| {
            let (inst, value) = of(at)?;
            Some((inst, whole_as(ty, i64::from(value))))
        });
        Values(values.collect())
    }

    /// The next value of a metric that goes by factors: every fifth fetch another.
    fn scale_step(&mut self, item: u32) -> f64 {
        let (factor, limit) = match item {
            65 => (2.0, 10.0 * 1024f64.powi(4)),
            66 => (0.5, 1024f64.powi(4)),
            67 => (10.0, 1e12),
            68 => (0.1, 1e12),
            69 => (10.0, 86_400.0),
            70 => (10.0, 86_400e9),
            _ => (10.0, 1e7),
        };
        let step = self.steps.entry(item).or_insert(ScaleStep {
            factor,
            limit,
            value: 1.0,
            fetches: 0,
        });
        step.fetches += 1;
        if step.fetches > 5 {
            step.fetches = 1;
            step.value = if step.factor > 1.0 && step.value * step.factor > step.limit {
                1.0
            } else if step.factor < 1.0 && step.value * step.factor < 1.0 {
                step.limit
            } else {
                step.value * step.factor
            };
        }
        step.value
    }

    fn updown(&mut self) -> i32 {
        let at_least = |value: i64, least: i64| value.max(least);
        let repeat = at_least(self.whole(165), 1) as u32;
        let step = self.whole(168) as i32;
        let (min, max) = (self.whole(166) as i32, self.whole(167) as i32);
        let (value, fetches, up) = &mut self.updown;
        if *fetches >= repeat {
            *fetches = 0;
            let next = if *up {
                value.saturating_add(step)
            } else {
                value.saturating_sub(step)
            };
            if *up && next > max {
                *up = false;
                *value = value.saturating_sub(step).max(min);
            } else if !*up && next < min {
                *up = true;
                *value = value.saturating_add(step).min(max);
            } else {
                *value = next;
            }
        }
        *fetches += 1;
        *value
    }

    /// How many of `dodgey`'s instances are seen, and which.
    fn dodgey(&mut self) -> Result<Vec<i32>, ErrorCode> {
        let control = self.whole(61);
        match control {
            ..0 => return Err(ErrorCode(control as i32)),
            0 => return Ok(Vec::new()),
            1..=5 => return Ok((1..=control as i32).collect()),
            _ => {}
        }
        if self.dodgey.0 == 0 {
            self.dodgey.0 = 1 + self.chance.below(control as u64);
            self.dodgey.1 = match self.chance.below(10) {
                0 => return Err(ErrorCode::AGAIN),
                _ => (1..=5).filter(|_| self.chance.below(2) == 0).collect(),
            };
        }
        self.dodgey.0 -= 1;
        Ok(self.dodgey.1.clone())
    }

    fn scrambled(&mut self) -> Values {
        let (version, chance) = &mut self.scramble;
        *version += 1;
        let mut shown: Vec<usize> = (0..self.bins.len())
            .filter(|_| chance.below(3) > 0)
            .collect();
        for at in (1..shown.len()).rev() {
            let other = chance.below(at as u64 + 1) as usize;
            shown.swap(at, other);
        }
        let values = shown.into_iter().filter_map(|at| {
            let value = self.bins.get(at)?;
            Some((100 * (at as i32 + 1), Atom::I32(*value)))
        });
        Values(values.collect())
    }

    fn events(&mut self, item: u32, caller: &Caller<'_>, indom: InDom) -> Values {
        let now = Timestamp::now();
        let (which, ty) = match item {
            136 => (0, Type::Event),
            139 => (1, Type::HighResEvent),
            _ => (2, Type::Event),
        };
        let Some(setup) = self.event.get_mut(which) else {
            return Values::default();
        };
        let at = *setup;
        *setup = if (0..3).contains(&at) { at + 1 } else { 0 };
        let bogus = events::bogus(self.domain, at, now).encode(ty);
        let bogus = Atom::Event(ty, bogus);
        if which == 2 {
            return Values::single(bogus);
        }
        let fungus = events::fungus(self.domain, if at > 3 { 0 } else { at }, now, ty);
        let fungus = Atom::Event(ty, fungus.encode(ty));
        let both = [(0, fungus), (1, bogus)];
        let wanted = |inst: &i32| caller.profile.includes(indom, *inst);
        Values(both.into_iter().filter(|(inst, _)| wanted(inst)).collect())
    }

    /// Values of metrics that do not stand for themselves.
    pub(super) fn behave(&mut self, caller: &Caller<'_>, desc: &Desc) -> Result<Values, ErrorCode> {
        let item = desc.pmid.item();
        let number = |value: i64| Ok(Values::single(whole_as(desc.ty, value)));
        match item {
            1 => number(std::process::id().into()),
            2 => number(self.seconds() as i64),
            3 => Ok(Values::single(Atom::Double(
                (self.start.elapsed().as_micros() / 1000) as f64,
            ))),
            4 => number(42),
            5 => {
                let values = (0..3).map(|inst| {
                    self.saw += 1;
                    (inst, Atom::I32(100 * (inst + 1) + self.saw % 100))
                });
                Ok(Values(values.collect()))
            }
            7 => {
                if self.chance.below(4) == 0 {
                    self.drift_up = !self.drift_up;
                }
                let by = self.chance.below(31) as i32;
                self.drift = if self.drift_up {
                    self.drift.saturating_add(by)
                } else {
                    self.drift.saturating_sub(by)
                };
                number(self.drift.into())
            }
            8 | 63 => {
                let base = self.whole(8);
                let high = self.seconds() / 30 % 2 == 1;
                number(if high { base * 3 } else { base })
            }
            // Nobody ever sees these.
            9 | 92 | 127..=135 | 138 => Ok(Values::default()),
            10 | 15 | 20 | 25 | 93 | 98 => number(1),
            11 | 16 | 21 | 26 | 94 | 99 => number(10),
            12 | 17 | 22 | 27 | 95 | 100 => number(100),
            13 | 18 | 23 | 28 | 96 | 101 => number(1_000_000),
            30 => Ok(Values::single(Atom::String("".into()))),
            31 => Ok(Values::single(Atom::String("hullo world!".into()))),
            33 => Ok(Values::single(Atom::Aggregate(Bytes::new()))),
            34 => Ok(Values::single(Atom::Aggregate(Bytes::from_static(
                b"hullo world!",
            )))),
            37 | 38 => {
                let present = self.mirages().into_iter();
                let values = present.map(|inst| {
                    self.saw += 1;
                    let value = i64::from(100 * (inst + 1) - self.saw % 100);
                    let scale = if item == 38 { 1_000_000 } else { 1 };
                    (inst, whole_as(desc.ty, value * scale))
                });
                Ok(Values(values.collect()))
            }
            39 => Ok(Values::single(Atom::Aggregate(self.system_information()))),
            40 => number(i64::from(self.received) + i64::from(self.sent)),
            41 => number(self.received.into()),
            42 => number(self.sent.into()),
            43..=45 => {
                let fetches = self.clients.get(&caller.client).copied().unwrap_or(0);
                let fetches = i64::from(fetches);
                number(match item {
                    43 => fetches * 2 + 1,
                    44 => fetches + 1,
                    _ => fetches,
                })
            }
            46 => {
                if self.chance.below(5) == 0 {
                    self.light = self.chance.below(3) as usize;
                }
                let light = ["red", "yellow", "green"].get(self.light).copied();
                Ok(Values::single(Atom::String(light.unwrap_or("red").into())))
            }
            47 => {
                if self.chance.below(3) == 0 {
                    self.magnitude = 1 << self.chance.below(7);
                }
                number(self.magnitude.into())
            }
            49 => {
                let entries = &caller.profile.indoms;
                let explicit = entries.iter().find(|e| e.indom == desc.indom);
                if !explicit.is_some_and(|e| e.exclude && !e.instances.is_empty()) {
                    return Err(ErrorCode::PROFILE);
                }
                let family = FAMILY.iter().zip(0..);
                Ok(Values(
                    family
                        .map(|((_, v), inst)| (inst, Atom::Float(*v)))
                        .collect(),
                ))
            }
            50 => Ok(self.bins(desc.ty, |at| {
                let value = self.bins.get(at).filter(|_| at % 2 == 0)?;
                Some((inst_of(at), *value))
            })),
            51 => Ok(self.bins(desc.ty, |at| {
                let value = *self.bins.get(at)?;
                Some(match at % 2 {
                    0 => (inst_of(at), value),
                    _ => (inst_of(at) + 50, value.saturating_add(50)),
                })
            })),
            52 => Ok(Values((0..500).map(|n| (n, Atom::I32(n))).collect())),
            53 => Ok(Values((0..500).map(|n| (n, Atom::I32(499 - n))).collect())),
            55 => Err(ErrorCode::APPVERSION),
            56 | 91 => number(0),
            57 => {
                let value = self.count(item, i32::MAX as u64 / 2 - 1);
                Ok(Values::single(Atom::I32(value as i32)))
            }
            58 => {
                let value = self.count(item, u64::from(u32::MAX) / 2 - 1);
                Ok(Values::single(Atom::U32(value as u32)))
            }
            59 => {
                let value = self.count(item, i64::MAX as u64 / 2 - 1);
                Ok(Values::single(Atom::I64(value as i64)))
            }
            60 => Ok(Values::single(Atom::U64(
                self.count(item, u64::MAX / 2 - 1),
            ))),
            160 | 161 => number(self.count(item, i32::MAX as u64 / 10 - 1) as i64),
            162 | 163 => number(self.count(item, i64::MAX as u64 / 10 - 1) as i64),
            62 => {
                let shown = self.dodgey()?;
                let values = shown.into_iter();
                let values = values.map(|inst| (inst, Atom::I32(self.chance.below(101) as i32)));
                Ok(Values(values.collect()))
            }
            64 => {
                self.rapid = self.rapid.wrapping_add(80_000_000);
                Ok(Values::single(Atom::U32(self.rapid.wrapping_mul(10))))
            }
            65..=71 => Ok(Values::single(Atom::Double(self.scale_step(item)))),
            72 => {
                let gradient = self.whole(73) as f64;
                let (value, at) = &mut self.constant;
                *value += gradient * at.elapsed().as_secs_f64();
                *at = Instant::now();
                Ok(Values::single(Atom::U32(*value as u64 as u32)))
            }
            75 => number(0),
            76..=78 => {
                self.scan_dynamic();
                let values = self.dynamic.iter();
                let values = values.map(|(inst, (_, n))| (*inst, Atom::I32(*n as i32)));
                Ok(Values(values.collect()))
            }
            80 => {
                let many = self.whole(79) as i32;
                Ok(Values((0..many).map(|n| (n, Atom::I32(n))).collect()))
            }
            81 | 83 => {
                let by = self.chance.below(1024);
                number(self.count(item, by) as i64)
            }
            82 | 84 | 85 => number(self.chance.below(1024) as i64),
            86 => number(42),
            109..=112 | 103..=108 | 113 | 114 | 6 | 48 => {
                let more = match item {
                    // These two grow with time in PCP's agent.
                    111 | 112 => self.seconds() as i64,
                    _ => 0,
                };
                let values =
                    self.bins.iter().zip(0..).map(|(value, at)| {
                        (inst_of(at), whole_as(desc.ty, i64::from(*value) + more))
                    });
                Ok(Values(values.collect()))
            }
            153 => {
                let values = self.bins.iter().zip(0..);
                let values =
                    values.map(|(v, at)| (inst_of(at), Atom::String(v.to_string().into())));
                Ok(Values(values.collect()))
            }
            115..=119 => number(42_000_000 / [1, 10, 100, 1000, 1_000_000][item as usize - 115]),
            120 => number(self.scramble.0),
            121 => Ok(self.scrambled()),
            122 => number(self.clients.keys().max().map_or(0, |c| i64::from(*c) + 1)),
            123 => number(self.clients.len() as i64),
            124 => number(self.started.into()),
            125 => number(self.ended.into()),
            126 => number(self.event[0].into()),
            140 => number(self.event[1].into()),
            136 | 137 | 139 => Ok(self.events(item, caller, desc.indom)),
            141..=152 => {
                // One step for each kind of semantics that is fetched.
                if matches!(item, 141 | 145 | 149) {
                    self.negative = self.negative.saturating_add(1);
                }
                number(self.negative.into())
            }
            154 => Err(ErrorCode::AGAIN),
            155 => number(self.mirage.interval.into()),
            156..=158 => Ok(self.processes.values(item - 156)),
            159 => number(0),
            164 => number(self.updown().into()),
            1000 => Ok(Values::single(Atom::String("foo".into()))),
            1001..=1007 => number(i64::from(item) - 1000),
            1009..=1011 => Ok(self.ghosts(item)),
            1023 => number(0x3f_ffff),
            _ => Err(ErrorCode::PMID),
        }
    }

    fn ghosts(&mut self, item: u32) -> Values {
        if item == 1011 {
            self.ghost_fetches = self.ghost_fetches.wrapping_add(1);
        }
        let fetch = self.ghost_fetches.wrapping_sub(1);
        let shown = GHOSTS.iter().take(self.shown_ghosts()).zip(0u32..);
        let values = shown.map(|((name, origin), at)| {
            let value = match item {
                1009 => Atom::String((*origin).into()),
                1010 => Atom::U32(name.len() as u32),
                // A pattern each: periods of 2, 2, 4, 4, 6, 6, 8 and none.
                _ => {
                    let half = at / 2 + 1;
                    let first = fetch / half % 2;
                    Atom::U32(match at {
                        0 => first,
                        1 => 1 - first,
                        2 => 1 - first,
                        3 => first,
                        4 => first,
                        5 => 1 - first,
                        6 => 1 - first,
                        _ => 0,
                    })
                }
            };
            (at as i32 + 1, value)
        });
        Values(values.collect())
    }

    /// Something of the size of a structure.
    fn system_information(&self) -> Bytes {
        let mut bytes = vec![0u8; 112];
        let seconds = self.seconds().to_be_bytes();
        if let Some(start) = bytes.get_mut(..8) {
            start.copy_from_slice(&seconds);
        }
        bytes.into()
    }
}

fn inst_of(bin: usize) -> i32 {
    100 * (i32::try_from(bin).unwrap_or(0) + 1)
}

/// A whole number as a type has it.
fn whole_as(ty: Type, value: i64) -> Atom {
    match ty {
        Type::U32 => Atom::U32(value as u32),
        Type::I64 => Atom::I64(value),
        Type::U64 => Atom::U64(value as u64),
        Type::Float => Atom::Float(value as f32),
        Type::Double => Atom::Double(value as f64),
        _ => Atom::I32(value as i32),
    }
}
