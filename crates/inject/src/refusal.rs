//! Sites that are refused in the last moment: because of what is in memory, or of where threads stand.

use std::collections::BTreeMap;

use symbols::Mapping;

use crate::code_page::CodePages;
use crate::error::InjectError;
use crate::image::Image;
use crate::owner::Owners;
use crate::patcher::{Built, Draft, Refusal};
use crate::process::Process;
use crate::ptrace;
use crate::stack::Interior;

impl Process {
    /// Takes out new sites whose code is not what the file has (unless a session that has ended
    /// left its patch there); answers with the code as it was then.
    pub(crate) fn refuse_changed(
        &self,
        drafts: &mut BTreeMap<u64, Draft>,
        refusals: &mut Vec<(u64, Refusal)>,
    ) -> CodePages {
        let mut pages = CodePages::default();
        let mut owners = Owners::default();
        drafts.retain(|&site, draft| {
            let mut runs = draft.plan.runs();
            let same = !draft.new
                || runs.all(|(start, bytes, _)| {
                    let present = pages.bytes(self, start, bytes.len());
                    present.is_some_and(|present| present == bytes)
                }) && draft
                    .plan
                    .originals()
                    .iter()
                    .all(|original| pages.holds(self, original));
            if same {
                return true;
            }
            let checked = owners.check(self, &mut pages, &draft.plan);
            let is_left = checked.is_ok();
            refusals.extend(checked.err().map(|reason| (site, reason.into())));
            is_left
        });
        pages
    }

    /// Takes out new sites whose code was rewritten by the program itself since it was compared with the file, while
    /// threads ran.
    pub(crate) fn refuse_rewritten(
        &self,
        seen: &CodePages,
        built: &mut Built,
        refusals: &mut Vec<(u64, Refusal)>,
    ) -> Result<(), InjectError> {
        let mut sites = Vec::new();
        let mut ranges = Vec::new();
        for (&site, (draft, ..)) in built.iter().filter(|(_, (draft, ..))| draft.new) {
            let runs = draft.plan.runs();
            let runs = runs.map(|(start, bytes, _)| (start, bytes.len()));
            let originals = draft.plan.originals().iter();
            let originals = originals.map(|original| (original.address, original.bytes.len()));
            for range in runs.chain(originals) {
                sites.push(site);
                ranges.push(range);
            }
        }
        let present = self.read_many(&ranges)?;
        let mut present = present.as_slice();
        for (site, (address, len)) in sites.into_iter().zip(ranges) {
            let now;
            (now, present) = present.split_at_checked(len).unwrap_or_default();
            if seen.seen(address, len).as_deref() != Some(now) && built.remove(&site).is_some() {
                let reason = "the program has just rewritten its code there";
                refusals.push((site, reason.into()));
            }
        }
        Ok(())
    }

    /// Takes out sites in modules that were unmapped while threads ran.
    pub(crate) fn refuse_unmapped(
        &self,
        maps: &[Mapping],
        built: &mut Built,
        refusals: &mut Vec<(u64, Refusal)>,
    ) {
        let is_mapped = |site: u64, image: &Image| {
            let at = maps.partition_point(|mapping| mapping.end <= site);
            maps.get(at).is_some_and(|mapping| {
                mapping.start <= site && mapping.path.as_deref() == Some(image.path())
            })
        };
        built.retain(|&site, (draft, ..)| {
            let is_left = is_mapped(site, &draft.image);
            if !is_left {
                refusals.push((site, "its module was unloaded meanwhile".into()));
            }
            is_left
        });
    }

    /// Takes out new sites that a stack points into.
    pub(crate) fn refuse_entered(
        &mut self,
        maps: &[Mapping],
        built: &mut Built,
        refusals: &mut Vec<(u64, Refusal)>,
    ) -> Result<(), InjectError> {
        let mut interior = Interior::default();
        for (&site, (draft, ..)) in built.iter().filter(|(_, (draft, ..))| draft.new) {
            for (_, _, boundaries) in draft.plan.runs() {
                for &boundary in boundaries.iter().skip(1) {
                    interior.add(boundary, site);
                }
            }
        }
        if interior.is_empty() {
            return Ok(());
        }
        for tid in self.thread_ids() {
            let registers = ptrace::registers(tid);
            let registers = self.or_death(registers)?;
            for site in interior.found_on_stack(self, maps, registers.rsp) {
                if built.remove(&site).is_some() {
                    let refusal = Refusal {
                        reason: "a thread may return into the middle of the patch".to_owned(),
                        momentary: true,
                    };
                    refusals.push((site, refusal));
                }
            }
        }
        Ok(())
    }
}
