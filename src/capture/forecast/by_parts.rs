//! Calls of a load by REST that reads one part after the other: by the ids of parents, by status, or all rows as one part.
//!
//! Comes in: the parts (`salesforce::copying`), rows and parents by the org's own counts. Goes out: calls, of a load that meets
//! no trouble. How rows are spread over parts and parents nobody tells: evenly is assumed, and that no page is shared by parts.
//! It follows `load`, call by call.

use crate::capture::load::PARENTS_LISTED;
use crate::salesforce::{Parents, Part};

/// `parents`: none if the org does not tell; then as many as there are rows, for too high is better than too low.
pub(super) fn calls(parts: &[Part], rows: u64, parents: Option<u64>, page_rows: u64) -> u64 {
    let page_rows = page_rows.max(1);
    let by_id = parts.iter().filter(|part| part.parents.is_none()).count() as u64;
    // Each of them has a page, also without a row.
    let mut calls = if by_id > 0 { rows.div_ceil(page_rows).max(1) + by_id - 1 } else { 0 };
    let parents = parents.unwrap_or(rows);
    // Beside parts that are read by id, their pages hold the rows.
    let rows = if by_id > 0 { 0 } else { rows };
    for of in parts.iter().filter_map(|part| part.parents.as_ref()) {
        calls += by_parents(of, parents, rows, page_rows);
    }
    calls
}

fn by_parents(of: &Parents, there: u64, rows: u64, page_rows: u64) -> u64 {
    // They are counted before the first is asked for.
    let counts = u64::from(of.most.is_some());
    if of.most.is_some_and(|most| there > most) {
        return counts;
    }
    // Behind a full list there may be more.
    let lists = there / u64::from(PARENTS_LISTED) + 1;
    let queries = queries(of, there);
    let pages_each = rows.div_ceil(queries.max(1)).div_ceil(page_rows).max(1);
    counts + lists + queries * pages_each
}

/// No query names parents of two lists.
fn queries(of: &Parents, there: u64) -> u64 {
    let (listed, at_once) = (u64::from(PARENTS_LISTED), u64::from(of.at_once.max(1)));
    there / listed * listed.div_ceil(at_once) + (there % listed).div_ceil(at_once)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::salesforce::Copying;

    fn of(name: &str, rows: u64, parents: impl Into<Option<u64>>) -> u64 {
        calls(Copying::of(name).parts(), rows, parents.into(), 2_000)
    }

    #[test]
    fn many_parents_a_query_cost_a_call_for_each_150_and_one_for_each_list_of_them() {
        let links = |rows, parents: u64| of("ContentDocumentLink", rows, parents);
        assert_eq!([0, 1, 150, 151, 300].map(|parents| links(300, parents)), [1, 2, 2, 3, 3]);
        // 13 of 150 and one of 50 in a list of 2,000.
        assert_eq!([1_999, 2_000, 2_001, 4_000].map(|parents| links(9_000, parents)), [15, 16, 17, 31]);
        // 2,500 rows of each query have two pages.
        assert_eq!((links(8_000, 600), links(10_000, 600)), (5, 9));
    }

    #[test]
    fn one_parent_a_query_costs_a_call_for_each_a_count_and_a_list() {
        let members = |rows, parents: u64| of("ContentFolderMember", rows, parents);
        assert_eq!([0, 1, 12, 1_999, 2_000].map(|parents| members(60, parents)), [2, 3, 14, 2_001, 2_003]);
        assert_eq!(members(5_000, 2), 6, "2,500 rows of each folder");
        assert_eq!(members(60, 2_001), 1, "they are counted, and the load is refused");
    }

    #[test]
    fn versions_of_articles_cost_a_page_for_each_status_and_the_articles() {
        let versions = |rows, articles: u64| of("KnowledgeArticleVersion", rows, articles);
        assert_eq!((versions(0, 0), versions(300, 100), of("Help__kav", 300, 100)), (4, 5, 5));
        assert_eq!(versions(3_000, 400), 4 + 1 + 3);
    }

    #[test]
    fn parents_that_the_org_does_not_tell_are_as_many_as_rows() {
        assert_eq!(of("ContentDocumentLink", 450, None), of("ContentDocumentLink", 450, 450));
        assert_eq!(of("Help__kav", 450, None), of("Help__kav", 450, 450));
        assert_eq!(of("Account", 4_001, None), 3);
    }
}
