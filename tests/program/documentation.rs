//! Links between the project's pages lead somewhere, and every page can be reached from the README.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Targets of the links in a page that are files of the project, anchors left out.
fn links(page: &Path) -> Vec<PathBuf> {
    let text = std::fs::read_to_string(page).unwrap();
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets
        .filter(|target| !target.contains("://") && !target.starts_with('#'))
        .map(|target| page.parent().unwrap().join(target.split('#').next().unwrap()))
        .collect()
}

#[test]
fn every_link_leads_somewhere_and_every_page_is_linked() {
    let mut known = BTreeSet::new();
    let mut waiting = vec![root().join("README.md")];
    while let Some(page) = waiting.pop() {
        let page = page.canonicalize().unwrap_or_else(|_| panic!("{} is not there", page.display()));
        if !known.insert(page.clone()) {
            continue;
        }
        if page.is_dir() {
            // A linked folder stands for its pages.
            let entries = std::fs::read_dir(&page).unwrap().map(|entry| entry.unwrap().path());
            waiting
                .extend(entries.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
        } else if page.extension().is_some_and(|extension| extension == "md") {
            waiting.extend(links(&page));
        }
    }
    let pages = std::fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    for page in pages.filter(|path| path.extension().is_some_and(|extension| extension == "md")) {
        assert!(known.contains(&page.canonicalize().unwrap()), "{} is linked from nowhere", page.display());
    }
    assert!(known.len() > 12, "{known:?}");
}
