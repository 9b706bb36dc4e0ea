//! The section `schema_registry`: where schemas are registered, as whom, and by which rules.
//!
//! Comes in: the section. Goes out: [`RegistrySettings`], or problems with their lines. Never: credentials on their way in plain
//! text, but to this machine itself; two outputs with different schemas under one subject.

use url::Url;

use super::reader::{Context, Section};
use super::tree::Place;
use super::{Authorities, ClientCertificate, OutputSettings, Secret, Settings, origin};

#[derive(Clone, Debug)]
pub struct RegistrySettings {
    pub url: Url,
    /// The same registry at other addresses, for when the first does not answer.
    pub other_urls: Vec<Url>,
    /// Trusted beside the system's.
    pub authorities: Option<Authorities>,
    /// Shown to a registry that asks for one.
    pub client_certificate: Option<ClientCertificate>,
    pub username: Option<String>,
    pub password: Option<Secret>,
    /// Sent as a bearer token, instead of user and password.
    pub token: Option<Secret>,
    /// The level of subjects that this program makes.
    pub compatibility: Compatibility,
    /// Default true; false: schemas must be there.
    pub auto_register: bool,
    /// How subjects are named; default by topic.
    pub subjects: SubjectNaming,
}

/// What level a subject gets when this program makes it. The level of one that is there is never touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compatibility {
    /// `BACKWARD` where the registry itself would check nothing; else the registry's own level holds. The default.
    AtLeastBackward,
    /// The registry's own level, whatever it is.
    Keep,
    /// `BACKWARD`, `FULL_TRANSITIVE` …, as the configuration says.
    Level(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubjectNaming {
    /// `<topic>-key`, `<topic>-value`.
    Topic,
    /// The record's full name.
    Record,
    /// `<topic>-<the record's full name>`.
    TopicRecord,
}

impl RegistrySettings {
    pub fn new(url: Url) -> Self {
        Self {
            url,
            other_urls: Vec::new(),
            authorities: None,
            client_certificate: None,
            username: None,
            password: None,
            token: None,
            compatibility: Compatibility::AtLeastBackward,
            auto_register: true,
            subjects: SubjectNaming::Topic,
        }
    }
}

const LEVELS: [&str; 7] =
    ["BACKWARD", "BACKWARD_TRANSITIVE", "FORWARD", "FORWARD_TRANSITIVE", "FULL", "FULL_TRANSITIVE", "NONE"];

pub(super) fn registry(section: Section<'_>) -> Option<RegistrySettings> {
    let urls = urls(&section);
    let username = section.text("username").map(|text| text.text).filter(|text| !text.is_empty());
    let password = section.secret("password");
    if password.is_some() {
        section.demand("username", "a password without a user has no use", |_| username.clone());
    }
    let token = section.secret("token");
    let problem = |key: &str, message: &str, hint: &str| {
        section.context().problem(section.place_of(key), message, Some(hint));
    };
    if token.is_some() && username.is_some() {
        problem("username", "`schema_registry.username` and `token` are both given", "keep one of them");
    }
    let client_certificate = client_certificate(&section);
    let words = LEVELS.map(|word| (word, Some(Compatibility::Level(word))));
    let words = [&words[..], &[("keep", Some(Compatibility::Keep))]].concat();
    let compatibility = section.choice("compatibility", &words);
    let auto_register = section.flag("auto_register");
    let subjects = section.choice(
        "subjects",
        &[
            ("topic", Some(SubjectNaming::Topic)),
            ("record", Some(SubjectNaming::Record)),
            ("topic-record", Some(SubjectNaming::TopicRecord)),
            ("TopicNameStrategy", Some(SubjectNaming::Topic)),
            ("RecordNameStrategy", Some(SubjectNaming::Record)),
            ("TopicRecordNameStrategy", Some(SubjectNaming::TopicRecord)),
        ],
    );
    let authorities = section.text("ca_file").and_then(|file| section.context().authorities(&file));
    let plain = urls.iter().flatten().any(|url| url.scheme() == "http" && !origin::is_loopback(url));
    if plain && (token.is_some() || username.is_some()) {
        let key = if token.is_some() { "token" } else { "username" };
        let message = format!(
            "`schema_registry.{key}`: plain http to the registry: credentials would travel unprotected"
        );
        problem(
            key,
            &message,
            "use https; plain http is only for this machine itself (127.0.0.1, localhost)",
        );
    }
    if client_certificate.is_some() && urls.iter().flatten().any(|url| url.scheme() == "http") {
        problem("certificate_file", "a client certificate has no use with plain http", "give an https URL");
    }
    section.finish();

    let mut urls = urls?.into_iter();
    let mut settings = RegistrySettings::new(urls.next()?);
    settings.other_urls = urls.collect();
    settings.authorities = authorities;
    settings.client_certificate = client_certificate;
    settings.username = username;
    settings.password = password;
    settings.token = token;
    settings.compatibility = compatibility.unwrap_or(settings.compatibility);
    settings.auto_register = auto_register.unwrap_or(settings.auto_register);
    settings.subjects = subjects.unwrap_or(settings.subjects);
    Some(settings)
}

/// One address or several, separated by commas.
fn urls(section: &Section<'_>) -> Option<Vec<Url>> {
    let text = section.required("url", "for example `http://localhost:8081`")?;
    let urls: Option<Vec<Url>> = text.text.split(',').map(str::trim).map(url).collect();
    if urls.is_none() {
        let hint = "for example `http://localhost:8081`; user and password have keys of their own";
        section.context().problem(text.place, "`schema_registry.url` is no http URL", Some(hint));
    }
    urls
}

fn url(text: &str) -> Option<Url> {
    Url::parse(text).ok().filter(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.host().is_some()
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none()
    })
}

fn client_certificate(section: &Section<'_>) -> Option<ClientCertificate> {
    let file = section.text("certificate_file");
    let key = section.secret("private_key");
    let context = section.context();
    let (file, key) = match (file, key) {
        (Some(file), Some(key)) => (file, key),
        (Some(file), None) => {
            if !section.has("private_key") && !section.has("private_key_file") {
                let message = "`schema_registry.certificate_file` without a private key";
                context.problem(file.place, message, Some("give `private_key_file` too"));
            }
            return None;
        }
        (None, Some(_)) => {
            let given = if section.has("private_key") { "private_key" } else { "private_key_file" };
            let message = format!("`schema_registry.{given}` without a certificate");
            context.problem(section.place_of(given), message, Some("give `certificate_file` too"));
            return None;
        }
        (None, None) => return None,
    };
    let path = context.path(&file.text);
    let read = std::fs::read_to_string(&path).map_err(|error| error.to_string());
    let refuse = |why: String| {
        let message = format!("client certificate {}: {why}", path.display());
        context.problem(file.place, message, Some("give a certificate and its private key in PEM"));
    };
    read.and_then(|pem| ClientCertificate::parse(&pem, &key)).map_err(refuse).ok()
}

/// Named by record alone, outputs of one object share a subject: then they must have one schema.
pub(super) fn check_subjects(context: &Context<'_>, settings: &Settings, places: &[Place]) {
    let by_record = settings.schema_registry.as_ref().is_some_and(|of| of.subjects == SubjectNaming::Record);
    if !by_record {
        return;
    }
    let clash = |one: &OutputSettings, other: &OutputSettings| {
        one.namespace == other.namespace
            && (one.envelope, &one.header_prefix) != (other.envelope, &other.header_prefix)
    };
    for (object, place) in settings.objects.iter().zip(places) {
        let mut outputs = object.outputs.as_slice();
        while let Some((first, rest)) = outputs.split_first() {
            if let Some(other) = rest.iter().find(|other| clash(first, other)) {
                let message = format!(
                    "outputs `{}` and `{}` of `{}` would share one subject though their schemas differ",
                    first.topic, other.topic, object.name
                );
                let hint = "give one of them another `namespace`, or set `subjects: topic-record`";
                context.problem(*place, message, Some(hint));
                break;
            }
            outputs = rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::file::read;
    use super::*;
    use crate::config::FieldNaming;

    fn load(section: &str, more: &str) -> Result<Settings, crate::Error> {
        let text = format!(
            "name: crm\n\
             salesforce: {{ login_domain: acme.my.salesforce.com, auth: client-credentials, client_id: a, client_secret: b }}\n\
             kafka: {{ bootstrap_servers: 'localhost:9092' }}\n\
             schema_registry: {{ {section} }}\n\
             objects: [ Account ]\n\
             {more}\n"
        );
        read(&text, &Context::new("crm.yaml".to_owned(), PathBuf::new(), &|_| None))
    }

    fn taken(section: &str) -> RegistrySettings {
        load(section, "").unwrap().schema_registry.unwrap()
    }

    #[test]
    fn addresses_credentials_levels_and_subjects_are_taken() {
        let plain = taken("url: 'http://localhost:8081'");
        assert_eq!(plain.compatibility, Compatibility::AtLeastBackward);
        assert_eq!((plain.subjects, plain.auto_register), (SubjectNaming::Topic, true));
        let several =
            taken("url: 'https://one:8081, https://two:8081/api', token: secret, compatibility: keep");
        assert_eq!(several.url.as_str(), "https://one:8081/");
        assert_eq!(several.other_urls, ["https://two:8081/api".parse().unwrap()]);
        assert_eq!(several.token, Some(Secret::new("secret")));
        assert_eq!(several.compatibility, Compatibility::Keep);
        assert!(!format!("{several:?}").contains("\"secret\""));
        let named = |word: &str| taken(&format!("url: 'http://x:1', subjects: {word}")).subjects;
        assert_eq!(named("record"), SubjectNaming::Record);
        assert_eq!(named("TopicRecordNameStrategy"), SubjectNaming::TopicRecord);
        let full = taken("url: 'http://x:1', compatibility: FULL_TRANSITIVE");
        assert_eq!(full.compatibility, Compatibility::Level("FULL_TRANSITIVE"));
        let local = taken("url: 'http://127.0.0.1:8081', username: me, password: p");
        assert_eq!(local.username.as_deref(), Some("me"));
        let naming = load("url: 'http://x:1'", "naming: { fields: single-underscore }").unwrap().field_naming;
        assert_eq!(naming, FieldNaming::SingleUnderscore);
    }

    #[test]
    fn what_would_show_credentials_or_cannot_be_meant_is_refused_with_its_place() {
        for (section, message) in [
            (
                "url: 'http://registry:8081', username: me, password: p",
                "credentials would travel unprotected",
            ),
            ("url: 'https://a:1,http://b:1', token: t", "`schema_registry.token`: plain http"),
            ("url: 'https://a:1', username: me, token: t", "`token` are both given"),
            ("url: 'https://me:p@a:1'", "is no http URL"),
            ("url: 'https://a:1,'", "is no http URL"),
            ("url: 'https://a:1', certificate_file: none.pem", "without a private key"),
            ("url: 'https://a:1', private_key: x", "without a certificate"),
            (
                "url: 'https://a:1', certificate_file: none.pem, private_key: x",
                "client certificate none.pem: ",
            ),
            ("url: 'https://a:1', compatibility: SIDEWAYS", "knows no value `SIDEWAYS`"),
            ("url: 'https://a:1', subjects: topics", "knows no value `topics`"),
        ] {
            let error = load(section, "").map(|_| ()).unwrap_err().to_string();
            assert!(error.contains("crm.yaml:4:") && error.contains(message), "{section}\n{error}");
        }
    }

    #[test]
    fn two_outputs_with_different_schemas_may_not_share_a_subject() {
        let outputs = |subjects: &str, second: &str| {
            load(
                &format!("url: 'https://a:1', subjects: {subjects}"),
                &format!(
                    "defaults: {{ outputs: [ {{ envelope: change-table }}, {{ envelope: change-table, topic: '{{name}}.{{object}}__ct', {second} }} ] }}"
                ),
            )
            .map(|_| ())
        };
        let error = outputs("record", "header_prefix: h__").unwrap_err();
        assert!(error.to_string().contains("would share one subject"), "{error}");
        assert!(error.advice().contains("`namespace`"));
        outputs("record", "header_prefix: h__, namespace: other").unwrap();
        outputs("record", "key: string").unwrap();
        outputs("topic-record", "header_prefix: h__").unwrap();
        outputs("topic", "header_prefix: h__").unwrap();
    }
}
