//! What is known of the code around the places of a batch, and which patch each of them gets.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::analysis::CodeSection;
use crate::arch::{
    BranchTargets, Plan, Room, TakenRanges, is_cancellable, plan_around, plan_through,
};
use crate::image::Image;
use crate::patcher::Insertion;

/// How far from a site its patch may use other code: twice the reach of a short jump, and what is moved there.
const FAR: u64 = 512;

/// `jmp [rip + n]`, without n.
const JUMP_BY_POINTER: [u8; 2] = [0xff, 0x25];

/// An image of a batch, and where control may enter the code that is to be patched.
pub(crate) struct Survey<'a> {
    pub(crate) image: &'a Image,
    /// The addresses to be patched, in the file.
    pub(crate) addresses: Vec<u64>,
    targets: Option<Arc<BranchTargets>>,
}

impl Survey<'_> {
    /// Where control may enter near the places, as cheaply as that can be told.
    pub(crate) fn targets(&mut self) -> &Arc<BranchTargets> {
        let module = &self.image.module;
        self.targets
            .get_or_insert_with(|| module.targets_around(&self.addresses))
    }

    /// The same of the whole module.
    pub(crate) fn complete(&mut self) -> &Arc<BranchTargets> {
        let all = Arc::clone(self.image.module.targets());
        self.targets.insert(all)
    }
}

/// The images with the insertions of a batch that each is to receive.
pub(crate) fn surveys<'a>(batch: &[Insertion], images: &'a [Image]) -> Vec<Survey<'a>> {
    let survey = |image: &'a Image| {
        let inside = batch.iter().map(|insertion| insertion.address);
        let inside = inside.filter(|address| image.range().contains(address));
        Survey {
            image,
            addresses: inside.map(|at| at.wrapping_sub(image.bias())).collect(),
            targets: None,
        }
    };
    images.iter().map(survey).collect()
}

/// The plan of a patch for an insertion, in the addresses of the file; or the reason why there is none.
pub(crate) fn plan_insertion(
    insertion: &Insertion,
    image: &Image,
    code: CodeSection<'_>,
    targets: &BranchTargets,
    taken: &TakenRanges,
    room: Room,
) -> Result<Plan, String> {
    let relative = insertion.address.wrapping_sub(image.bias());
    let function = targets
        .function_of(relative)
        .ok_or("it is not in a known function")?;
    let is_entry = insertion.at_function_entry || relative == function.start;
    let attempt = |start: u64| {
        let planned = if !is_entry && start == relative {
            plan_around(start, code, function.clone(), targets, taken, room)
        } else {
            plan_through(
                start,
                relative,
                code,
                function.clone(),
                targets,
                taken,
                room,
            )
        };
        let planned = planned.map_err(|error| error.to_string())?;
        if !planned.boundaries.contains(&relative) {
            return Err("it is out of the patch's reach".to_owned());
        }
        if planned.ranges().any(|range| is_cancellable(code, range)) {
            return Err("threads are cancelled there, which is told by their place".to_owned());
        }
        Ok(planned)
    };
    if code
        .from(relative)
        .is_some_and(|bytes| bytes.starts_with(&JUMP_BY_POINTER))
        && image.module.reads_its_jumps()
    {
        return Err("mono reads its jumps by their bytes".to_owned());
    }
    attempt(relative).or_else(|reason| {
        let before = insertion.before.iter();
        before
            .map(|start| start.wrapping_sub(image.bias()))
            .take_while(|start| function.contains(start))
            .find_map(|start| attempt(start).ok())
            .ok_or(reason)
    })
}

/// The patch, among some by their sites, that moves the code at an address.
pub(crate) fn holder<T>(
    patches: &BTreeMap<u64, T>,
    address: u64,
    plan: impl Fn(&T) -> &Plan,
) -> Option<u64> {
    if let Some((&site, patch)) = patches.range(..=address).next_back()
        && plan(patch).range().contains(&address)
    {
        return Some(site);
    }
    // What makes room for a patch is never far from it.
    let near = address.saturating_sub(FAR)..=address.saturating_add(FAR);
    patches.range(near).find_map(|(&site, patch)| {
        let moved = &plan(patch).moved;
        let holds = moved.iter().any(|moved| moved.range().contains(&address));
        holds.then_some(site)
    })
}

/// Whether a snippet can be run at an address that a patch displaces.
pub(crate) fn boundary(plan: &Plan, address: u64) -> Result<(), String> {
    if plan.displaces(address) {
        Ok(())
    } else {
        Err("it is in the middle of an instruction".to_owned())
    }
}
