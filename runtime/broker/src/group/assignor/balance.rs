//! Balance with as few moves as possible: the arithmetic under the sticky assignors.
//!
//! Units (partitions, or task numbers) come in classes; a class may only be owned by its members. Afterwards every unit has an
//! owner of its class, no unit can move to a less loaded member of its class and improve the balance, and a unit that had an
//! owner has moved only because balance needed it. With one class that is: loads differ by at most one.
use alloc::{collections::BTreeSet, vec, vec::Vec};

/// Units that the same members may own.
#[derive(Clone, Debug)]
pub(super) struct Class {
    /// Indices of the members that may own its units.
    pub(super) members: Vec<usize>,
    /// Present owner of each unit, if it has one. An owner outside `members` counts as none.
    pub(super) owners: Vec<Option<usize>>,
}

/// Gives every unit an owner.
pub(super) fn balance(classes: &mut [Class], members: usize) {
    let mut loads = vec![0usize; members];
    for class in classes.iter_mut() {
        for owner in &mut class.owners {
            *owner = owner.filter(|owner| class.members.binary_search(owner).is_ok());
            if let Some(owner) = *owner {
                loads[owner] += 1;
            }
        }
    }
    let mut order: Vec<usize> = (0..classes.len()).collect();
    // Those with the least choice first: the others can still make up for them.
    order.sort_by_key(|&class| classes[class].members.len());
    for &class in &order {
        deal(&mut classes[class], &mut loads);
    }
    // Every move lowers the sum of the squares of the loads, so this ends.
    let mut moved = true;
    while moved {
        moved = false;
        for &class in &order {
            moved |= level(&mut classes[class], &mut loads);
        }
    }
}

/// Gives units without an owner to the least loaded.
fn deal(class: &mut Class, loads: &mut [usize]) {
    let mut heap: BTreeSet<(usize, usize)> = class.members.iter().map(|&member| (loads[member], member)).collect();
    for owner in class.owners.iter_mut().filter(|owner| owner.is_none()) {
        let Some((load, member)) = heap.pop_first() else { return };
        *owner = Some(member);
        loads[member] += 1;
        heap.insert((load + 1, member));
    }
}

/// Moves units from the most to the least loaded while that improves the balance. Whether anything moved.
fn level(class: &mut Class, loads: &mut [usize]) -> bool {
    let mut held: Vec<Vec<usize>> = vec![Vec::new(); loads.len()];
    for (unit, owner) in class.owners.iter().enumerate() {
        if let Some(owner) = *owner {
            held[owner].push(unit);
        }
    }
    let mut heap: BTreeSet<(usize, usize)> = class.members.iter().map(|&member| (loads[member], member)).collect();
    // Members that have something to give in this class; a receiver is never worth taking from again.
    let mut donors: BTreeSet<(usize, usize)> = heap
        .iter()
        .copied()
        .filter(|&(_, member)| !held[member].is_empty())
        .collect();
    let mut moved = false;
    while let (Some(&(most, donor)), Some(&(least, receiver))) = (donors.last(), heap.first()) {
        if most < least + 2 {
            break;
        }
        let Some(unit) = held[donor].pop() else {
            donors.remove(&(most, donor));
            continue;
        };
        class.owners[unit] = Some(receiver);
        heap.remove(&(most, donor));
        heap.remove(&(least, receiver));
        donors.remove(&(most, donor));
        donors.remove(&(least, receiver));
        loads[donor] -= 1;
        loads[receiver] += 1;
        heap.insert((most - 1, donor));
        heap.insert((least + 1, receiver));
        held[receiver].push(unit);
        donors.insert((least + 1, receiver));
        if !held[donor].is_empty() {
            donors.insert((most - 1, donor));
        }
        moved = true;
    }
    moved
}
