//! Profiles: which instances a client wants, and how it says so.

use super::wire::{Reader, Writer};
use crate::debug::contexts;
use crate::error::{Error, Result};
use crate::indom::InDom;

/// Which instances of which domains a client wants (pmAddProfile(3)).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Profile {
    /// The state of domains that are not listed: true excludes all.
    pub exclude: bool,
    /// Domains with a state of their own.
    pub indoms: Vec<ProfileEntry>,
}

/// One domain of a [`Profile`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProfileEntry {
    /// The domain.
    pub indom: InDom,
    /// True: all but `instances` are excluded. False: all but `instances` are included.
    pub exclude: bool,
    /// The exceptions.
    pub instances: Vec<i32>,
}

impl Profile {
    /// Whether an instance is wanted.
    #[must_use]
    pub fn includes(&self, indom: InDom, inst: i32) -> bool {
        match self.indoms.iter().find(|e| e.indom == indom) {
            Some(entry) => entry.exclude == entry.instances.contains(&inst),
            None => !self.exclude,
        }
    }

    /// Includes instances, or all with an empty list (pmAddProfile(3)).
    pub fn add(&mut self, indom: Option<InDom>, instances: &[i32]) {
        self.change(indom, instances, false);
        contexts::changed("pmAddProfile", indom, self);
    }

    /// Excludes instances, or all with an empty list (pmDelProfile(3)).
    pub fn remove(&mut self, indom: Option<InDom>, instances: &[i32]) {
        self.change(indom, instances, true);
        contexts::changed("pmDelProfile", indom, self);
    }

    fn change(&mut self, indom: Option<InDom>, instances: &[i32], exclude: bool) {
        let Some(indom) = indom else {
            self.exclude = exclude;
            self.indoms.clear();
            return;
        };
        let at = match self.indoms.iter().position(|e| e.indom == indom) {
            Some(at) => at,
            None => {
                // A domain never mentioned starts from the other state when instances are picked out of it.
                self.indoms.push(ProfileEntry {
                    indom,
                    exclude: !exclude,
                    instances: Vec::new(),
                });
                self.indoms.len() - 1
            }
        };
        let Some(entry) = self.indoms.get_mut(at) else {
            return;
        };
        if instances.is_empty() {
            entry.exclude = exclude;
            entry.instances.clear();
        } else if entry.exclude == exclude {
            entry.instances.retain(|i| !instances.contains(i));
        } else {
            for inst in instances {
                if !entry.instances.contains(inst) {
                    entry.instances.push(*inst);
                }
            }
        }
    }
}

pub(super) fn decode_profile(reader: &mut Reader) -> Result<(i32, Profile)> {
    let context = reader.i32()?;
    let exclude = reader.i32()? == 1;
    let count = reader.length()?;
    reader.i32()?;
    if count > reader.remaining() / 16 {
        return Err(Error::ipc(format!(
            "{count} domains in {} bytes",
            reader.remaining()
        )));
    }
    let mut heads = Vec::with_capacity(count);
    for _ in 0..count {
        heads.push((InDom(reader.u32()?), reader.i32()? == 1, reader.length()?));
        reader.i32()?;
    }
    let mut indoms = Vec::with_capacity(count);
    for (indom, exclude, instances) in heads {
        if instances > reader.remaining() / 4 {
            return Err(Error::ipc(format!(
                "{instances} instances in {} bytes",
                reader.remaining()
            )));
        }
        indoms.push(ProfileEntry {
            indom,
            exclude,
            instances: (0..instances)
                .map(|_| reader.i32())
                .collect::<Result<_>>()?,
        });
    }
    Ok((context, Profile { exclude, indoms }))
}

pub(super) fn encode_profile(writer: &mut Writer<'_>, context: i32, profile: &Profile) {
    writer.i32(context);
    writer.i32(i32::from(profile.exclude));
    writer.count(profile.indoms.len());
    writer.i32(0);
    for entry in &profile.indoms {
        writer.u32(entry.indom.0);
        writer.i32(i32::from(entry.exclude));
        writer.count(entry.instances.len());
        writer.i32(0);
    }
    for entry in &profile.indoms {
        for inst in &entry.instances {
            writer.i32(*inst);
        }
    }
}
