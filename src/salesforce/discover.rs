//! Which objects the configuration chooses of those the org has.
//!
//! Comes in: describeGlobal, names and globs. Goes out: [`Choice`]s, spelled as the org spells. A name that the org
//! does not have is an error that says which names are near; a glob that meets nothing is not.

use std::collections::{HashMap, HashSet};

use globset::{GlobBuilder, GlobMatcher};

use crate::domain::name;
use crate::error::{Error, Kind, Result};

use super::ObjectSummary;

/// A chosen object.
#[derive(Clone, Debug)]
pub struct Choice {
    /// As the org spells it.
    pub name: String,
    pub label: String,
    /// Index of the wanted name or glob that chose it; an exact name goes before globs.
    pub wanted: usize,
    /// Chosen by its exact name: an obstacle is then an error, not a line in a report.
    pub by_name: bool,
    /// Why it cannot be captured, as far as describeGlobal tells (a describe may tell more).
    pub obstacle: Option<String>,
}

/// `wanted`: names and globs; `exclude`: globs, taken off afterwards. In the order of `wanted`, then by name. An
/// exact name that the org does not have (or the user may not see) is an error that says which names are near.
pub fn choose(org: &[ObjectSummary], wanted: &[&str], exclude: &[String]) -> Result<Vec<Choice>> {
    choose_with(org, wanted, &[], exclude)
}

/// The same, and of `starters` (names and globs too) what the org has and nothing else chose; their places count on behind
/// those of `wanted`.
pub fn choose_with(
    org: &[ObjectSummary],
    wanted: &[&str],
    starters: &[&str],
    exclude: &[String],
) -> Result<Vec<Choice>> {
    let by_name: HashMap<String, &ObjectSummary> =
        org.iter().map(|object| (object.name.to_ascii_lowercase(), object)).collect();
    let excluded = exclude.iter().map(|pattern| glob(pattern)).collect::<Result<Vec<_>>>()?;
    let mut chosen: Vec<Choice> = Vec::new();
    let mut taken = HashSet::new();
    let mut take = |object: &ObjectSummary, wanted: usize, by_name: bool| {
        if excluded.iter().any(|glob| glob.is_match(&object.name)) || !taken.insert(object.name.clone()) {
            return;
        }
        chosen.push(Choice {
            name: object.name.clone(),
            label: object.label.clone(),
            wanted,
            by_name,
            obstacle: object.obstacle(),
        });
    };
    for (place, wanted) in wanted.iter().enumerate().filter(|(_, wanted)| !is_glob(wanted)) {
        match by_name.get(&wanted.to_ascii_lowercase()) {
            Some(object) => take(object, place, true),
            None => return Err(unknown(wanted, org)),
        }
    }
    let globs = wanted.iter().enumerate().filter(|(_, wanted)| is_glob(wanted));
    let starters = starters.iter().enumerate().map(|(place, starter)| (wanted.len() + place, starter));
    for (place, pattern) in globs.chain(starters) {
        let glob = glob(pattern)?;
        for object in org.iter().filter(|object| glob.is_match(&object.name)) {
            take(object, place, false);
        }
    }
    chosen.sort_by(|left, right| (left.wanted, &left.name).cmp(&(right.wanted, &right.name)));
    refuse_shared_targets(&chosen)?;
    Ok(chosen)
}

/// The index of the first name, not glob, that the org does not have.
pub fn first_unknown(org: &[ObjectSummary], wanted: &[&str]) -> Option<usize> {
    let known = |wanted: &str| org.iter().any(|object| object.name.eq_ignore_ascii_case(wanted));
    wanted.iter().position(|wanted| !is_glob(wanted) && !known(wanted))
}

/// Those of the starters that meet no object of the org.
pub fn absent<'a>(org: &[ObjectSummary], starters: &[&'a str]) -> Vec<&'a str> {
    let meets =
        |starter: &str| glob(starter).is_ok_and(|glob| org.iter().any(|object| glob.is_match(&object.name)));
    starters.iter().copied().filter(|starter| !meets(starter)).collect()
}

fn is_glob(text: &str) -> bool {
    text.contains(['*', '?', '[', '{'])
}

fn glob(pattern: &str) -> Result<GlobMatcher> {
    GlobBuilder::new(pattern).case_insensitive(true).build().map(|glob| glob.compile_matcher()).map_err(
        |error| {
            Error::new(
                Kind::ConfigInvalid,
                format!("{pattern:?} is no pattern for objects: {}", error.kind()),
            )
        },
    )
}

/// Two objects on one topic would overwrite each other.
fn refuse_shared_targets(chosen: &[Choice]) -> Result<()> {
    let mut targets = HashMap::new();
    for choice in chosen.iter().filter(|choice| choice.obstacle.is_none()) {
        if let Some(other) = targets.insert(name::target_object(&choice.name), &choice.name) {
            let what = format!("objects {other} and {} would get one name in Kafka", choice.name);
            return Err(Error::new(Kind::ConfigInvalid, what).hint("leave one of them out with `exclude`"));
        }
    }
    Ok(())
}

fn unknown(wanted: &str, org: &[ObjectSummary]) -> Error {
    let near = near_names(wanted, org);
    let error = Error::new(
        Kind::ObjectUnknown,
        format!("object {wanted} is not in the org, or the integration user may not see it"),
    );
    if near.is_empty() {
        return error;
    }
    error.hint(format!(
        "did you mean {}? else give the integration user access to the object",
        near.join(" or ")
    ))
}

fn near_names<'a>(wanted: &str, org: &'a [ObjectSummary]) -> Vec<&'a str> {
    let names: Vec<&str> = org.iter().map(|object| object.name.as_str()).collect();
    near(wanted, &names)
}

/// Up to three names that a slip could have come from, nearest first.
pub(super) fn near<'a>(wanted: &str, names: &[&'a str]) -> Vec<&'a str> {
    let bare = bare_name(wanted);
    let bound = (bare.chars().count() / 3).clamp(1, 3);
    let mut near: Vec<(usize, &str)> = names
        .iter()
        .map(|name| (distance(&bare, &bare_name(name)), *name))
        .filter(|(distance, _)| *distance <= bound)
        .collect();
    near.sort_unstable();
    near.into_iter().take(3).map(|(_, name)| name).collect()
}

/// Lower case, without a namespace and without `__c`: what people forget or add.
fn bare_name(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    let stem = lower.strip_suffix("__c").or_else(|| lower.strip_suffix("_c")).unwrap_or(&lower);
    stem.rsplit("__").next().unwrap_or(stem).to_owned()
}

/// Insertions, deletions and replacements from one word to the other.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut previous: Vec<usize> = (0..=to.len()).collect();
    for (row, have) in from.chars().enumerate() {
        let mut current = vec![row + 1];
        for (column, want) in to.iter().enumerate() {
            let at = |line: &[usize], place: usize| line.get(place).copied().unwrap_or(usize::MAX - 1);
            let replaced = at(&previous, column) + usize::from(have != *want);
            let best = replaced.min(at(&previous, column + 1) + 1).min(at(&current, column) + 1);
            current.push(best);
        }
        previous = current;
    }
    previous.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn org(names: &[&str]) -> Vec<ObjectSummary> {
        names
            .iter()
            .map(|name| ObjectSummary {
                name: (*name).to_owned(),
                label: String::new(),
                queryable: !name.ends_with("__e"),
                retrieveable: true,
                replicateable: true,
                deprecated_and_hidden: false,
            })
            .collect()
    }

    fn names(choices: &[Choice]) -> Vec<&str> {
        choices.iter().map(|choice| choice.name.as_str()).collect()
    }

    #[test]
    fn names_and_globs_choose_once_and_the_org_spells() {
        let org =
            org(&["Account", "AccountShare", "AccountHistory", "Contact", "Invoice__c", "Vote", "Ping__e"]);
        let exclude = ["*Share".to_owned()];
        let chosen = choose(&org, &["A*", "invoice__C", "account", "*__?"], &exclude).unwrap();
        assert_eq!(names(&chosen), ["AccountHistory", "Invoice__c", "Account", "Ping__e"]);
        let by_name: Vec<_> = chosen.iter().map(|choice| (choice.wanted, choice.by_name)).collect();
        assert_eq!(by_name, [(0, false), (1, true), (2, true), (3, false)]);
        assert!(chosen.last().unwrap().obstacle.as_ref().unwrap().contains("platform event"));
        // Wherever it stands, a name goes before globs, and the first glob before others.
        let chosen = choose(&org, &["*", "Inv*", "Invoice__c"], &exclude).unwrap();
        let entry = |name: &str| chosen.iter().find(|choice| choice.name == name).unwrap().wanted;
        assert_eq!((entry("Invoice__c"), entry("Contact")), (2, 0));
        let vote = choose(&org, &["Vote"], &[]).unwrap();
        assert!(vote.first().unwrap().obstacle.is_some());
        assert!(choose(&org, &["Nothing*"], &[]).unwrap().is_empty());
    }

    #[test]
    fn starters_bring_what_the_org_has_and_nothing_else_chose() {
        let org = org(&["Account", "Case", "Contact", "et4ae5__Send__c", "AccountShare"]);
        let starters = ["Account", "Case", "Quote", "et4ae5__*__c", "x__*"];
        let chosen = choose_with(&org, &["Acc*", "Contact"], &starters, &["*Share".to_owned()]).unwrap();
        let of: Vec<_> = chosen.iter().map(|choice| (&*choice.name, choice.wanted, choice.by_name)).collect();
        let expected =
            [("Account", 0, false), ("Contact", 1, true), ("Case", 3, false), ("et4ae5__Send__c", 5, false)];
        assert_eq!(of, expected);
        assert_eq!(absent(&org, &starters), ["Quote", "x__*"]);
    }

    #[test]
    fn a_name_the_org_does_not_have_says_which_are_near() {
        let org = org(&["Account", "AccountShare", "Contact", "Invoice__c", "et4ae5__SendDefinition__c"]);
        let hint = |name: &str| choose(&org, &[name], &[]).unwrap_err();
        let error = hint("Accuont");
        assert_eq!(error.kind(), Kind::ObjectUnknown);
        assert!(error.to_string().contains("object Accuont is not in the org"), "{error}");
        assert!(hint("Acount").advice().contains("did you mean Account?"), "{}", hint("Acount").advice());
        assert!(hint("Invoice").advice().contains("did you mean Invoice__c?"));
        assert!(hint("SendDefinition").advice().contains("et4ae5__SendDefinition__c"));
        assert!(!hint("Warehouse").advice().contains("did you mean"));
        assert_eq!(first_unknown(&org, &["Nothing*", "account", "Invoice", "Warehouse"]), Some(2));
        assert_eq!(first_unknown(&org, &["Contact"]), None);
    }

    #[test]
    fn two_objects_on_one_topic_are_refused() {
        let error = choose(&org(&["Invoice__c", "Invoice_c"]), &["Invoice*"], &[]).unwrap_err();
        assert!(
            error.to_string().contains("Invoice__c and Invoice_c")
                || error.to_string().contains("Invoice_c and Invoice__c"),
            "{error}"
        );
        assert_eq!(choose(&org(&["A"]), &["["], &[]).unwrap_err().kind(), Kind::ConfigInvalid);
    }
}
