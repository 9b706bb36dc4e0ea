//! The configuration file as a whole: from a path to checked [`Settings`].
//!
//! Comes in: a path. Goes out: settings, or one error that names every problem by line and column. Nothing is sent
//! anywhere meanwhile.

use std::net::SocketAddr;
use std::path::Path;

use super::reader::{Context, Section};
use super::tree::{self, Place};
use super::{
    FieldNaming, ObjectSettings, SHORTEST_HASH_KEY, Secret, Settings, clouds, connection, objects,
    platform_events, registry,
};
use crate::error::Kind;
use crate::{Error, Result};

/// Loads a configuration with this process's environment.
pub fn load(path: &Path) -> Result<Settings> {
    load_with(path, &|name| std::env::var(name).ok())
}

pub(super) fn load_with(path: &Path, environment: &dyn Fn(&str) -> Option<String>) -> Result<Settings> {
    let file = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| {
        Error::new(Kind::ConfigInvalid, format!("configuration {file} cannot be read"))
            .source(error)
            .hint("give the file with `-c FILE`; the repository's `examples/` has some to start from")
    })?;
    let directory = path.parent().unwrap_or(Path::new("")).to_owned();
    let context = Context::new(file, directory, environment);
    read(&text, &context)
}

pub(super) fn read(text: &str, context: &Context<'_>) -> Result<Settings> {
    let file = &context.file;
    let root = tree::parse(text).map_err(|(place, message)| {
        Error::new(Kind::ConfigInvalid, format!("{file}:{place}: {message}"))
            .hint("the file must be YAML; indent with spaces, and quote texts that hold `: ` or ` #`")
    })?;
    let Some(root) = root else {
        return Err(Error::new(Kind::ConfigInvalid, format!("{file}:1:1: the configuration is empty"))
            .hint("the repository's `examples/minimal.yaml` shows what it needs"));
    };
    let start = Place { line: 1, column: 1 };
    let top = Section::new(context, "", start, Some(&root));
    let settings = whole(&top);
    top.finish();
    match (context.error(), settings) {
        (Some(error), _) => Err(error),
        (None, Some(settings)) => Ok(settings),
        (None, None) => Err(Error::new(Kind::Internal, format!("{file}: incomplete without a reason"))),
    }
}

fn whole(top: &Section<'_>) -> Option<Settings> {
    let name = name(top);
    // Without a name the rest is still read, so that all problems are named at once.
    let pipeline = name.clone().unwrap_or_else(|| "pipeline".to_owned());
    let salesforce = connection::salesforce(top.section("salesforce"), &pipeline);
    let kafka = connection::kafka(top.section("kafka"));
    let registry = registry::registry(top.section("schema_registry"));
    let http = http(top.section("http"));
    let naming = top.section("naming");
    let words = [("keep", FieldNaming::Keep), ("single-underscore", FieldNaming::SingleUnderscore)];
    let field_naming = naming.choice("fields", &words.map(|(word, naming)| (word, Some(naming))));
    naming.finish();
    let mut events = platform_events::listed(top);
    let clouds = clouds::listed(top);
    let chosen = objects::chosen(top, &pipeline, &clouds, events.is_empty() && clouds.is_empty());
    platform_events::check_names(top.context(), &mut events, &chosen.objects);
    let mut settings = Settings::new(&name?, salesforce?, kafka?, Some(registry?));
    settings.objects = chosen.objects;
    settings.exclude = chosen.exclude;
    settings.http_listen = http;
    settings.field_naming = field_naming.unwrap_or_default();
    settings.hash_key = hash_key(top, &settings.objects, &chosen.places);
    let event_places: Vec<Place> = events.iter().map(|event| event.place).collect();
    settings.platform_events = platform_events::settings(top.context(), events);
    objects::check_topics(top.context(), &settings, &chosen.places, &event_places);
    registry::check_subjects(top.context(), &settings, &chosen.places);
    Some(settings)
}

fn name(top: &Section<'_>) -> Option<String> {
    let hint = "a short name such as `crm`: it names topics, consumer group and transactional ids";
    let name = top.required("name", hint)?;
    let fits = name.text.len() <= 100
        && name.text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if !fits {
        let message = format!("`name`: `{}` cannot name topics", name.shown);
        let hint = "use letters, digits, `.`, `_` and `-`, at most 100, and begin with a letter or digit";
        top.context().problem(name.place, message, Some(hint));
        return None;
    }
    Some(name.text)
}

/// One key for all fields, so that equal values of any two are equal hashes.
fn hash_key(top: &Section<'_>, objects: &[ObjectSettings], places: &[Place]) -> Option<Secret> {
    const HINT: &str = "`openssl rand -hex 32` makes one; keep it in a file: `hash_key_file: hash.key`";
    let problems = top.context().problem_count();
    let key = top.secret("hash_key");
    if let Some(key) = &key {
        if key.expose().len() < SHORTEST_HASH_KEY {
            let given = if top.has("hash_key") { "hash_key" } else { "hash_key_file" };
            let message = format!("`{given}` has fewer than {SHORTEST_HASH_KEY} characters");
            top.context().problem(top.place_of(given), message, Some(HINT));
        }
        return Some(key.clone());
    }
    if top.context().problem_count() == problems {
        let hashed = objects.iter().zip(places).find(|(object, _)| !object.fields.hash.is_empty());
        if let Some((object, place)) = hashed {
            let message = format!("`fields.hash` of `{}` needs a `hash_key`", object.name);
            top.context().problem(*place, message, Some(HINT));
        }
    }
    None
}

fn http(section: Section<'_>) -> Option<SocketAddr> {
    let default = SocketAddr::from(([127, 0, 0, 1], 8180));
    let listen =
        section.parsed("listen", "an address with port such as `127.0.0.1:8180`, or `off`", |text| {
            if text == "off" { Some(None) } else { text.parse().ok().map(Some) }
        });
    section.finish();
    listen.unwrap_or(Some(default))
}
