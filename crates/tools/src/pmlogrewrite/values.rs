//! Values by the rules: which of them stay, and what they become.

use pcp::archive::{DataRecord, encode_data};
use pcp::timezone::Zone;
use pcp::{
    Atom, Block, Desc, ErrorCode, Fetched, INST_NULL, InDom, InstanceValue, Timestamp, Type, Value,
    ValueSet, dump_values, print_value,
};

use super::rewriter::Rewriter;
use crate::rewrite_rules::{MetricRule, Pick};

impl Rewriter {
    /// What a data record becomes; `None` when all its metrics go.
    pub(super) fn record(
        &self,
        record: &DataRecord,
        time: Timestamp,
    ) -> Result<Option<Vec<u8>>, String> {
        if record.is_mark() {
            return Ok(Some(encode_data(self.out.version(), time, &[])));
        }
        let unchanged = self.rules.metrics.is_empty()
            && self.rules.indoms.is_empty()
            && self.rules.delta.is_none()
            && self.out.version() == self.archive.label.version;
        if unchanged {
            return Ok(Some(record.record.payload.to_vec()));
        }
        let fetched = record
            .decode()
            .map_err(|error| format!("pmlogrewrite: Error: __pmLogRead: {}\n", error.code()))?;
        let mut sets = Vec::new();
        let mut left = fetched.sets.into_iter();
        while let Some(set) = left.next() {
            let pmid = set.pmid;
            match self.set(set) {
                Ok(set) => sets.extend(set),
                Err(message) => {
                    sets.push(ValueSet::new(pmid, Vec::new()));
                    sets.extend(left);
                    let at = record.time;
                    let dump =
                        dump_values(&self.archive, &Fetched { time: at, sets }, &Zone::local());
                    return Err(message + &dump);
                }
            }
        }
        if sets.is_empty() {
            return Ok(None);
        }
        Ok(Some(encode_data(self.out.version(), time, &sets)))
    }

    fn set(&self, mut set: ValueSet) -> Result<Option<ValueSet>, String> {
        let Some(desc) = self.archive.meta.descs.get(set.pmid.0).copied() else {
            return Ok(Some(set));
        };
        let rule = self.rules.metrics.get(&set.pmid);
        if rule.is_some_and(|r| r.delete) {
            return Ok(None);
        }
        if let Ok(values) = &mut set.values {
            if let Some(rule) = rule
                && let Some(indom) = rule.indom
                && !values.is_empty()
            {
                pick(values, rule, desc, indom);
            }
            if let Some(change) = self.rules.indoms.get(&desc.indom)
                && rule.is_none_or(|r| r.indom != Some(InDom::NULL))
            {
                // A metric that loses all stays, without values.
                values.retain(|v| change.instances.get(&v.inst).is_none_or(|r| !r.delete));
                for value in values.iter_mut() {
                    if let Some(number) = change.instances.get(&value.inst).and_then(|r| r.number) {
                        value.inst = number;
                    }
                }
            }
            if let Some(rule) = rule {
                convert(values, rule, desc).map_err(|code| {
                    let names = self.archive.meta.names.names_of(desc.pmid);
                    format!(
                        "pmlogrewrite: Error: {} ({}): extracting value from type {} to {}: {code}\n",
                        names.first().cloned().unwrap_or_default(),
                        desc.pmid,
                        desc.ty,
                        rule.ty.unwrap_or(desc.ty),
                    )
                })?;
            }
        }
        set.pmid = rule.and_then(|r| r.pmid).unwrap_or(set.pmid);
        Ok(Some(set))
    }
}

/// Leaves the value that stands for all, or numbers the only one.
fn pick(values: &mut Vec<InstanceValue>, rule: &MetricRule, desc: Desc, indom: InDom) {
    let inst = if indom.is_null() { INST_NULL } else { 0 };
    let how = match (&rule.pick, desc.indom.is_null(), indom.is_null()) {
        (Some(how), _, _) => how.clone(),
        (None, _, true) | (None, true, _) => Pick::First,
        (None, false, false) => return,
    };
    let numbers = || -> Vec<(f64, usize)> {
        let number = |(n, v): (usize, &InstanceValue)| {
            Some((Atom::extract(&v.value, desc.ty).ok()?.as_f64()?, n))
        };
        values.iter().enumerate().filter_map(number).collect()
    };
    let mut chosen = match how {
        Pick::First => values.first().cloned(),
        Pick::Last => values.last().cloned(),
        Pick::Inst(_) if desc.indom.is_null() => values.first().cloned(),
        Pick::Inst(inst) => values.iter().find(|v| v.inst == inst).cloned(),
        Pick::Min => {
            let least = numbers().into_iter().min_by(|a, b| a.0.total_cmp(&b.0));
            least.and_then(|(_, n)| values.get(n).cloned())
        }
        Pick::Max => {
            let most = numbers().into_iter().max_by(|a, b| a.0.total_cmp(&b.0));
            most.and_then(|(_, n)| values.get(n).cloned())
        }
        Pick::Sum | Pick::Avg => {
            let all = numbers();
            let sum: f64 = all.iter().map(|(v, _)| v).sum();
            let whole = !matches!(desc.ty, Type::Float | Type::Double);
            let value = match how {
                // Averages of whole numbers are rounded.
                Pick::Avg if whole => (sum / all.len().max(1) as f64 + 0.5).trunc(),
                Pick::Avg => sum / all.len().max(1) as f64,
                _ => sum,
            };
            let atom = Atom::Double(value).convert(desc.ty).ok();
            atom.map(|atom| InstanceValue {
                inst: 0,
                value: atom.to_value(),
            })
        }
    };
    if let Some(value) = &mut chosen {
        match how {
            // The value of what has no instances becomes that of one.
            Pick::Inst(to) if desc.indom.is_null() => value.inst = to,
            _ if indom.is_null() || desc.indom.is_null() => value.inst = inst,
            Pick::Sum | Pick::Avg => value.inst = inst,
            _ => {}
        }
    }
    *values = chosen.into_iter().collect();
}

fn convert(values: &mut [InstanceValue], rule: &MetricRule, desc: Desc) -> Result<(), ErrorCode> {
    let ty = rule.ty.unwrap_or(desc.ty);
    let units = rule.units.filter(|_| rule.rescale);
    if ty == desc.ty && units.is_none() {
        return Ok(());
    }
    let traced = pcp::debug::on(pcp::debug::Flag::Value);
    let shown = |atom: &Atom| {
        let text = print_value(&atom.to_value(), atom.ty(), 1);
        String::from_utf8_lossy(&text).into_owned()
    };
    let extracted = |atom: &Atom, ty: Type| {
        let result = atom.clone().convert(ty);
        if traced {
            let new = match &result {
                Ok(new) => shown(new),
                Err(code) => format!("Error: {code}"),
            };
            eprintln!(
                "pmExtractValue:  {} [{}] -> {new} [{ty}]",
                shown(atom),
                atom.ty()
            );
        }
        result
    };
    for value in values {
        let mut atom = Atom::extract(&value.value, desc.ty)?;
        if let Some(units) = units {
            extracted(&atom, desc.ty)?;
            let scaled = atom.rescale(desc.units, units)?;
            if traced {
                let (old, new) = (shown(&atom), shown(&scaled));
                eprintln!("pmConvScale: {old} [{}] -> {new} [{units}]", desc.units);
            }
            atom = scaled;
        }
        let atom = extracted(&atom, ty)?;
        value.value = match &atom {
            // Archives have these out of line.
            Atom::Float(number) => Value::Block(Block {
                ty: Type::Float.raw() as u8,
                bytes: number.to_bits().to_be_bytes().to_vec().into(),
            }),
            atom => atom.to_value(),
        };
    }
    Ok(())
}
