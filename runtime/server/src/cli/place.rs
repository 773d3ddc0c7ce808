//! How a place in a topic is written on the command line.
//!
//! ```text
//! earliest          the first record that is still there
//! latest            behind the last
//! committed         where the group is
//! 1234              that offset
//! -100              a hundred records before the end
//! @2013-01-31T12:00:00Z  or  @1359633600000       the first record at or after that time
//! ```

use std::collections::BTreeMap;
use std::str::FromStr;

use tidemill_client::{Admin, OffsetSpec, TopicPartition};
use tidemill_protocol::manifest::Moment;

/// A place, the same for all partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Earliest,
    Latest,
    Committed,
    Offset(i64),
    BeforeEnd(i64),
    Time(i64),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Place, String> {
        let place = match text {
            "earliest" | "beginning" => Some(Place::Earliest),
            "latest" | "end" => Some(Place::Latest),
            "committed" => Some(Place::Committed),
            _ => match text.split_at_checked(1) {
                Some(("@", time)) => moment(time).map(Place::Time),
                Some(("-", count)) => count.parse().ok().filter(|count| 0 <= *count).map(Place::BeforeEnd),
                _ => text.parse().ok().filter(|offset| 0 <= *offset).map(Place::Offset),
            },
        };
        place.ok_or_else(|| {
            "must be earliest, latest, committed, an offset, -COUNT from the end, or @TIME (milliseconds or 2013-01-31T12:00:00Z)"
                .to_owned()
        })
    }
}

fn moment(text: &str) -> Option<i64> {
    text.parse()
        .ok()
        .filter(|ms| 0 <= *ms)
        .or_else(|| Moment::parse(text).map(|Moment(ms)| ms))
}

impl Place {
    /// The offset of the place in each partition; none for where the group is.
    pub(super) async fn offsets(
        self,
        admin: &Admin,
        partitions: &[TopicPartition],
    ) -> tidemill_client::Result<Option<BTreeMap<TopicPartition, i64>>> {
        let spec = match self {
            Place::Committed => return Ok(None),
            Place::Offset(offset) => return Ok(Some(partitions.iter().map(|place| (place.clone(), offset)).collect())),
            Place::Earliest => OffsetSpec::Earliest,
            Place::Latest => OffsetSpec::Latest,
            Place::Time(ms) => OffsetSpec::Timestamp(ms),
            Place::BeforeEnd(count) => {
                let starts = ends(admin, partitions, OffsetSpec::Earliest).await?;
                let ends = ends(admin, partitions, OffsetSpec::Latest).await?;
                let before = |(place, end): (TopicPartition, i64)| {
                    let start = starts.get(&place).copied().unwrap_or(0);
                    (place, end.saturating_sub(count).max(start))
                };
                return Ok(Some(ends.into_iter().map(before).collect()));
            }
        };
        let mut found = ends(admin, partitions, spec).await?;
        let missing: Vec<_> = partitions
            .iter()
            .filter(|place| !found.contains_key(place))
            .cloned()
            .collect();
        if !missing.is_empty() {
            // Nothing is at that time or later.
            found.extend(ends(admin, &missing, OffsetSpec::Latest).await?);
        }
        Ok(Some(found))
    }
}

/// Offsets of one kind; partitions that have none are left out.
pub(super) async fn ends(
    admin: &Admin,
    partitions: &[TopicPartition],
    spec: OffsetSpec,
) -> tidemill_client::Result<BTreeMap<TopicPartition, i64>> {
    let wanted = partitions.iter().map(|place| (place.clone(), spec)).collect();
    let found = admin.list_offsets(&wanted).await?;
    Ok(found
        .into_iter()
        .filter_map(|(place, found)| Some((place, found?.offset)))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_written_as_documented() {
        let place = |text: &str| text.parse::<Place>().ok();
        assert_eq!(place("earliest"), Some(Place::Earliest));
        assert_eq!(place("committed"), Some(Place::Committed));
        assert_eq!(place("1234"), Some(Place::Offset(1234)));
        assert_eq!(place("-100"), Some(Place::BeforeEnd(100)));
        assert_eq!(place("@1359633600000"), Some(Place::Time(1_359_633_600_000)));
        assert_eq!(place("@2013-01-31T12:00:00Z"), Some(Place::Time(1_359_633_600_000)));
        for nonsense in ["", "soon", "@", "@soon", "--1", "1.5"] {
            assert_eq!(place(nonsense), None, "{nonsense}");
        }
    }
}
