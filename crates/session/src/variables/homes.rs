//! Places of probes whose handlers leave typed values in globals: what a type means that another handler knows only by
//! such a value.

use super::scope::{self, TypeKey, UNKNOWN_TYPE};
use super::{SharedInfo, SiteResolver, SiteVariables};
use codegen::{Resolution, Resolver, Unresolved};
use script::ir::{Source, Target, TargetBase};
use std::collections::BTreeMap;
use std::sync::Arc;
use symbols::ImageAddr;

/// One place of each probe that others have types from, by the probe's index.
#[derive(Clone, Debug, Default)]
pub struct Homes {
    places: Arc<BTreeMap<usize, (Arc<SiteVariables>, ImageAddr)>>,
}

impl FromIterator<(usize, Arc<SiteVariables>, ImageAddr)> for Homes {
    fn from_iter<I: IntoIterator<Item = (usize, Arc<SiteVariables>, ImageAddr)>>(
        places: I,
    ) -> Self {
        let places = places.into_iter();
        Homes {
            places: Arc::new(places.map(|(probe, v, at)| (probe, (v, at))).collect()),
        }
    }
}

impl Homes {
    /// What an expression means at a probe's place to a handler elsewhere.
    pub(super) fn resolve(&self, home: usize, target: &Target) -> Result<Resolution, Unresolved> {
        let (variables, address) = self.places.get(&home).ok_or(UNKNOWN_TYPE)?;
        elsewhere(variables, *address).resolve(target)
    }

    /// The expression without the sources of its type that are at home in probes of which no place was found, if there are
    /// such sources and others.
    pub(super) fn without_missing(&self, target: &Target) -> Option<Target> {
        let is_known = |s: &Source| s.home.is_none_or(|home| self.places.contains_key(&home));
        let known: Vec<Source> = sources(target)
            .iter()
            .filter(|s| is_known(s))
            .cloned()
            .collect();
        if known.is_empty() || known.len() == sources(target).len() {
            return None;
        }
        let mut target = target.clone();
        if let TargetBase::Autocast(_, sources) = &mut target.base {
            *sources = known;
        }
        Some(target)
    }

    /// That all sources of an expression's type say the same; `here` tells the type of those that are at home where it
    /// is asked.
    pub(super) fn agree(
        &self,
        target: &Target,
        place: Option<&SiteResolver<'_>>,
        here: impl Fn(&Target) -> Result<TypeKey, String>,
    ) -> Result<(), String> {
        let sources = sources(target);
        if sources.len() < 2 {
            return Ok(());
        }
        let program = place.map(|p| &**p.variables.binary());
        let type_of = |source: &Source| match (scope::named_module(&source.target), source.home) {
            (Some(module), _) => scope::type_in_modules(&source.target, module, program),
            (None, Some(home)) => {
                let (variables, address) = self.places.get(&home).ok_or(UNKNOWN_TYPE)?;
                elsewhere(variables, *address).type_of(&source.target)
            }
            (None, None) => here(&source.target),
        };
        // What cannot be found is told where it is used.
        let mut known = sources.iter().filter_map(|s| type_of(s).ok());
        let first = known.next();
        match known.all(|other| Some(other) == first) {
            true => Ok(()),
            false => Err(UNKNOWN_TYPE.into()),
        }
    }
}

fn elsewhere(variables: &SiteVariables, address: ImageAddr) -> SiteResolver<'_> {
    SiteResolver {
        is_elsewhere: true,
        ..SiteResolver::new(variables, address, SharedInfo::default())
    }
}

fn sources(target: &Target) -> &[Source] {
    match &target.base {
        TargetBase::Autocast(_, sources) => sources,
        _ => &[],
    }
}

/// The probe at whose place an expression's type is known, where that is another one.
pub(super) fn home(target: &Target) -> Option<usize> {
    sources(target).first()?.home
}
