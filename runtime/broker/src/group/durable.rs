//! What is kept of groups: members, generations and epochs, assignments. Everything a commit of offsets is checked against.
//!
//! A [`Change`] is what a coordinator has decided; applying it cannot fail and decides nothing, so that an assignor may improve
//! without old entries meaning something else. One row for the group and one for each member: a change writes only those that
//! differ. Deadlines, pending joins and everything else that a restart may forget are not here.
use alloc::{collections::BTreeMap, string::String, vec::Vec};
use bytes::Bytes;
use tidemill_protocol::error_code::ErrorCode;

use super::{classic, consumer};
use crate::{
    effect::{Changes, Row, Table},
    entry::Stamp,
    state::State,
    stored,
    stored::{Malformed, Reader, Stored, Writer},
};

stored! {
    /// A durable change of one group.
    #[derive(Clone, Debug, PartialEq)]
    pub enum Change {
        /// Write the group and some of its members.
        Put(Put) = 1,
        /// Forget a group that has no members, and its offsets.
        Delete(String) = 2,
    }
}

stored! {
    /// A group as it is from now on. Members that are not named stay as they are, unless the protocol changes: then they are gone.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Put {
        /// The group.
        pub group: String,
        /// What is said once for the group.
        pub header: Header,
        /// Members that are new, differ, or (`None`) are gone.
        pub members: Vec<(String, Option<Member>)>,
    }
}

stored! {
    /// What is said once for a group, by protocol.
    #[derive(Clone, Debug, PartialEq)]
    pub enum Header {
        /// Clients assign: JoinGroup, SyncGroup.
        Classic(classic::Header) = 1,
        /// The coordinator assigns: ConsumerGroupHeartbeat (KIP-848).
        Consumer(consumer::Header) = 2,
    }
}

stored! {
    /// A member, by protocol.
    #[derive(Clone, Debug, PartialEq)]
    pub enum Member {
        /// Of a classic group.
        Classic(classic::Member) = 1,
        /// Of a KIP-848 group.
        Consumer(consumer::Member) = 2,
    }
}

stored! {
    /// Row of a group.
    #[derive(Clone, Debug, PartialEq)]
    pub struct GroupRow {
        /// See [`Group::empty_since`].
        pub empty_since: Option<i64>,
        /// The rest.
        pub header: Header,
    }
}

/// What a [`Change`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Applied.
    Done,
    /// Not applied.
    Refused(ErrorCode),
}

/// A group as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Time of the entry that left it without members; `None` while it has some. Offsets expire from here (and never before).
    pub empty_since: Option<i64>,
    /// By protocol.
    pub body: Body,
}

/// Header and members, by protocol.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// Clients assign.
    Classic(classic::Group),
    /// The coordinator assigns.
    Consumer(consumer::Group),
}

impl Body {
    /// Number of members.
    pub fn members(&self) -> usize {
        match self {
            Body::Classic(group) => group.members.len(),
            Body::Consumer(group) => group.members.len(),
        }
    }

    /// The header as it is kept.
    pub(super) fn header(&self) -> Header {
        match self {
            Body::Classic(group) => Header::Classic(group.header.clone()),
            Body::Consumer(group) => Header::Consumer(group.header.clone()),
        }
    }

    /// A member as it is kept.
    pub(super) fn member(&self, id: &str) -> Option<Member> {
        match self {
            Body::Classic(group) => group.members.get(id).cloned().map(Member::Classic),
            Body::Consumer(group) => group.members.get(id).cloned().map(Member::Consumer),
        }
    }

    fn of(header: Header) -> Body {
        match header {
            Header::Classic(header) => Body::Classic(classic::Group {
                header,
                ..classic::Group::default()
            }),
            Header::Consumer(header) => Body::Consumer(consumer::Group {
                header,
                ..consumer::Group::default()
            }),
        }
    }

    /// Takes over a header; whether the protocol is the same.
    fn set_header(&mut self, header: &Header) -> bool {
        match (self, header) {
            (Body::Classic(group), Header::Classic(header)) => group.header = header.clone(),
            (Body::Consumer(group), Header::Consumer(header)) => group.header = header.clone(),
            _ => return false,
        }
        true
    }

    fn set_member(&mut self, id: &str, member: Option<Member>) {
        match (self, member) {
            (Body::Classic(group), Some(Member::Classic(member))) => drop(group.members.insert(id.into(), member)),
            (Body::Consumer(group), Some(Member::Consumer(member))) => drop(group.members.insert(id.into(), member)),
            (Body::Classic(group), _) => drop(group.members.remove(id)),
            (Body::Consumer(group), _) => drop(group.members.remove(id)),
        }
    }

    fn member_ids(&self) -> Vec<String> {
        match self {
            Body::Classic(group) => group.members.keys().cloned().collect(),
            Body::Consumer(group) => group.members.keys().cloned().collect(),
        }
    }
}

/// All groups as they are kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Durable {
    groups: BTreeMap<String, Group>,
}

impl Durable {
    /// The group of that name. A group that has only committed offsets is not here.
    pub fn get(&self, group: &str) -> Option<&Group> {
        self.groups.get(group)
    }

    /// In order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Group)> {
        self.groups.iter().map(|(name, group)| (name.as_str(), group))
    }

    /// What a member of a consumer group has, once that is all that it should have.
    pub fn reconciled(&self, group: &str, member: &str) -> Option<&super::Partitions> {
        let Body::Consumer(group) = &self.groups.get(group)?.body else {
            return None;
        };
        let member = group.members.get(member)?;
        member.is_reconciled(group.header.epoch).then_some(&member.assigned)
    }

    /// Whether this member may commit offsets for the group now. `generation` is a classic generation or a member epoch; -1 with an
    /// empty member id is a consumer outside of group management, which may only while the group has no members.
    pub fn check_commit(
        &self,
        group: &str,
        member: &str,
        instance: Option<&str>,
        generation: i32,
    ) -> Result<(), ErrorCode> {
        match self.groups.get(group).map(|group| &group.body) {
            None if generation < 0 => Ok(()),
            None => Err(ErrorCode::ILLEGAL_GENERATION),
            Some(Body::Classic(group)) => group.check_commit(member, instance, generation),
            Some(Body::Consumer(group)) => group.check_commit(member, generation),
        }
    }

    pub(crate) fn load(&mut self, row: &Row) -> Result<(), Malformed> {
        let Some(value) = &row.value else { return Ok(()) };
        let mut key = Reader::new(row.key.clone());
        let name = String::restore(&mut key)?;
        let member = Option::<String>::restore(&mut key)?;
        key.finish()?;
        match member {
            None => {
                let GroupRow { empty_since, header } = GroupRow::from_row(value)?;
                self.groups.insert(
                    name,
                    Group {
                        empty_since,
                        body: Body::of(header),
                    },
                );
            }
            // A group's row sorts before those of its members.
            Some(id) => {
                let group = self
                    .groups
                    .get_mut(&name)
                    .ok_or(Malformed("a member without its group"))?;
                group.body.set_member(&id, Some(Member::from_row(value)?));
            }
        }
        Ok(())
    }

    fn put(&mut self, at: Stamp, put: &Put, changes: &mut Changes) {
        let group = self.groups.entry(put.group.clone()).or_insert_with(|| Group {
            empty_since: None,
            body: Body::of(put.header.clone()),
        });
        if !group.body.set_header(&put.header) {
            for id in group.body.member_ids() {
                changes.delete(Table::Group, key(&put.group, Some(&id)));
            }
            group.body = Body::of(put.header.clone());
        }
        for (id, member) in &put.members {
            match member {
                Some(member) => changes.put(Table::Group, key(&put.group, Some(id)), member),
                None => changes.delete(Table::Group, key(&put.group, Some(id))),
            }
            group.body.set_member(id, member.clone());
        }
        group.empty_since = (group.body.members() == 0).then(|| group.empty_since.unwrap_or(at.time));
        changes.put(
            Table::Group,
            key(&put.group, None),
            &GroupRow {
                empty_since: group.empty_since,
                header: put.header.clone(),
            },
        );
    }
}

/// Applies a change.
pub(crate) fn apply(state: &mut State, at: Stamp, change: &Change, changes: &mut Changes) -> Outcome {
    match change {
        Change::Put(put) => {
            state.groups.put(at, put, changes);
            Outcome::Done
        }
        Change::Delete(name) => delete(state, at, name, changes),
    }
}

fn delete(state: &mut State, at: Stamp, name: &str, changes: &mut Changes) -> Outcome {
    if state.groups.get(name).is_some_and(|group| group.body.members() > 0) {
        return Outcome::Refused(ErrorCode::NON_EMPTY_GROUP);
    }
    let offsets: Vec<_> = state.offsets.of_group(name).map(|(at, _)| *at).collect();
    let known = state.groups.groups.remove(name).is_some();
    if known {
        changes.delete(Table::Group, key(name, None));
    }
    if !known && offsets.is_empty() {
        return Outcome::Refused(ErrorCode::GROUP_ID_NOT_FOUND);
    }
    state.delete_offsets(changes, at, name, &offsets);
    Outcome::Done
}

/// Key of a row: the group, and the member for a member's row. As `(String, Option<String>)` is kept.
fn key(group: &str, member: Option<&str>) -> Bytes {
    let mut writer = Writer::default();
    text(&mut writer, group);
    member.is_some().store(&mut writer);
    if let Some(member) = member {
        text(&mut writer, member);
    }
    writer.into_bytes()
}

fn text(writer: &mut Writer, text: &str) {
    writer.count(text.len());
    writer.put(text.as_bytes());
}
