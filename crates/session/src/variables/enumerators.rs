//! `@enum` and `@enumname`: enumerators by name and names by value.

use super::value::Lens;
use codegen::{Location, Resolution, Variable};
use symbols::{DebugInfo, Scopes, TypeId, TypeKind};

/// More names than this are no enumeration that somebody wrote.
const NAME_LIMIT: usize = 4096;

/// The value of an enumerator; that of the unit at hand goes before others of the same name.
pub(super) fn value<'b>(
    info: &DebugInfo<'b>,
    scopes: Option<&Scopes<'b>>,
    name: &str,
) -> Result<Resolution, String> {
    // `Kind::Nut` and `Nut` are one.
    let plain = name.rsplit("::").next().unwrap_or(name);
    let found = info.enumerator(plain, scopes);
    let value = found.ok_or_else(|| format!("unable to find enumerator '{name}'"))?;
    Ok(Resolution::Variable(Variable::plain(
        Location::Constant(value),
        8,
        true,
    )))
}

/// The names of an enumeration's values.
pub(super) fn names(lens: &Lens<'_, '_>, id: TypeId) -> Result<Resolution, String> {
    let described = lens.describe(Some(id))?;
    let described = described.ok_or("a value of type void has no name")?;
    match described.kind {
        TypeKind::Enumeration { enumerators, .. } => Ok(Resolution::Choice(
            enumerators
                .into_iter()
                .take(NAME_LIMIT)
                .map(|(name, value)| (value, name))
                .collect(),
        )),
        _ => Err(format!("'{}' is not an enumeration", described.spelling)),
    }
}
