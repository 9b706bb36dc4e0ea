//! The sections that say what is captured and how: `defaults`, `objects`, `exclude`.
//!
//! Comes in: the file. Goes out: one [`ObjectSettings`] per entry, the defaults put in, in the order of the file. What
//! only a later version can do is refused by name; what two outputs would mix in one topic is refused too.

use std::collections::BTreeMap;
use std::time::Duration;

use globset::Glob;

use super::clouds;
use super::condition;
use super::reader::{Context, Section, Text, near};
use super::tree::{Place, Value};
use super::{
    After, Blobs, CaptureChoice, Cloud, Compounds, Decimals, EnvelopeKind, FieldRules, KeyFormat, Method,
    ObjectSettings, OnNewField, OutputSettings, PollSettings, Settings, ValueRules,
};
use crate::domain::name::{is_avro_name, target_object};

pub(super) struct Chosen {
    pub objects: Vec<ObjectSettings>,
    /// Where each of them stands.
    pub places: Vec<Place>,
    pub exclude: Vec<String>,
}

/// `demanded`: there is nothing else to capture.
pub(super) fn chosen(top: &Section<'_>, pipeline: &str, clouds: &[(Cloud, Place)], demanded: bool) -> Chosen {
    let context = top.context();
    let defaults = top.section("defaults");
    let base = rules(&defaults, pipeline, ObjectSettings::new(pipeline, ""));
    defaults.finish();

    let mut chosen = Chosen { objects: Vec::new(), places: Vec::new(), exclude: Vec::new() };
    let hint = "list what to capture: `objects: [Account, Contact]`";
    let items = match demanded {
        true => top.demand("objects", hint, |top| top.list("objects").filter(|items| !items.is_empty())),
        false => top.list("objects"),
    };
    for node in items.unwrap_or_default() {
        let (name, settings) = match &node.value {
            Value::Scalar { .. } => (context.text(node), base.clone()),
            _ => {
                let section = Section::new(context, "objects[]", node.place, Some(node));
                let name = section.required("name", "the object's API name, or a glob");
                let settings = rules(&section, pipeline, base.clone());
                let fields = fields(section.section("fields"), settings.fields.values);
                let condition = condition(&section);
                let events = settings.after == After::ChangedOnly && settings.capture != CaptureChoice::Poll;
                if condition.is_some() && events {
                    let message = "`where` with `after: changed-only`: of a record that comes to fit an event brings only what changed";
                    let hint = "set `after: full` for this object, or `capture: poll`";
                    context.problem(section.place_of("where"), message, Some(hint));
                }
                section.finish();
                (name, ObjectSettings { fields, condition, ..settings })
            }
        };
        let Some(name) = name.filter(|name| is_object_pattern(context, name)) else { continue };
        let twice = chosen.objects.iter().position(|known| known.name.eq_ignore_ascii_case(&name.text));
        if let Some(first) = twice.and_then(|index| chosen.places.get(index)) {
            let message = format!("object `{}` is listed twice, first in line {}", name.text, first.line);
            context.problem(
                name.place,
                message,
                Some("keep one entry; give it several `outputs` if need be"),
            );
            continue;
        }
        let place = format!("{}:{}", context.file, name.place);
        chosen.objects.push(ObjectSettings { name: name.text, place, ..settings });
        chosen.places.push(name.place);
    }
    for name in top.texts("exclude").unwrap_or_default() {
        if !is_object_pattern(context, &name) {
            continue;
        }
        let named = chosen
            .objects
            .iter()
            .find(|object| !is_glob(&object.name) && matches_object(&name.text, &object.name));
        if let Some(object) = named {
            let message = format!("`exclude: {}` leaves out `{}`, which is listed", name.text, object.name);
            context.problem(name.place, message, Some("take one of the two away"));
        }
        chosen.exclude.push(name.text);
    }
    for (entry, place) in clouds::entries(clouds, &base, &context.file, &chosen.objects) {
        chosen.objects.push(entry);
        chosen.places.push(place);
    }
    chosen
}

/// Whether an entry of `objects` or `exclude` is a pattern rather than one object's name.
pub fn is_glob(name: &str) -> bool {
    name.contains(['*', '?', '[', '{'])
}

/// Whether an object's API name fits a name or glob of the configuration; case does not count in Salesforce.
pub fn matches_object(pattern: &str, object: &str) -> bool {
    if !is_glob(pattern) {
        return pattern.eq_ignore_ascii_case(object);
    }
    Glob::new(&pattern.to_lowercase())
        .is_ok_and(|glob| glob.compile_matcher().is_match(object.to_lowercase()))
}

fn is_object_pattern(context: &Context<'_>, name: &Text) -> bool {
    let text = &name.text;
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || b"_*?[]{},!-".contains(&byte);
    let fits = !text.is_empty()
        && text.bytes().all(letters)
        && (is_avro_name(text) || (is_glob(text) && Glob::new(text).is_ok()));
    if !fits {
        let message = format!("`{}` is no API name and no glob", name.shown);
        context.problem(name.place, message, Some("for example `Account`, `Invoice__c`, `et4ae5__*__c`"));
    }
    fits
}

/// What stands both in `defaults` and in an object's entry.
fn rules(section: &Section<'_>, pipeline: &str, base: ObjectSettings) -> ObjectSettings {
    let method = section.choice(
        "method",
        &[
            ("cdc", Some(Method::Cdc)),
            ("full-load", Some(Method::FullLoad)),
            ("reload", None),
            ("reload-and-compare", None),
        ],
    );
    let capture = section.choice(
        "capture",
        &[
            ("auto", Some(CaptureChoice::Auto)),
            ("poll", Some(CaptureChoice::Poll)),
            ("subscribe", Some(CaptureChoice::Subscribe)),
        ],
    );
    let initial_load = section.flag("initial_load").unwrap_or(base.initial_load);
    if section.has("initial_load") && !initial_load && method.unwrap_or(base.method) == Method::FullLoad {
        let place = section.place_of("initial_load");
        let message = "`initial_load: false` with `method: full-load` would do nothing";
        section.context().problem(place, message, Some("take one of the two away"));
    }
    let after =
        section.choice("after", &[("full", Some(After::Full)), ("changed-only", Some(After::ChangedOnly))]);
    let refetch_wait = section.duration("refetch_wait", Duration::ZERO..=SECOND * 60);
    section.choice("state", &[("none", Some(())), ("fingerprint", None), ("full", None)]);
    section.choice("formulas", &[("ignore", Some(())), ("compare", None), ("follow", None)]);
    let on_new_field = section.choice(
        "on_new_field",
        &[("backfill", Some(OnNewField::Backfill)), ("ignore", Some(OnNewField::Ignore))],
    );
    let values = values(section, base.fields.values);
    let poll = poll(section.section("poll"), base.poll);
    let outputs = outputs(section, pipeline).unwrap_or(base.outputs);
    section.not_yet(&[
        ("compare", "leave it out"),
        ("schedule", "it belongs to `method: reload`: leave it out"),
    ]);
    ObjectSettings {
        name: base.name,
        place: base.place,
        method: method.unwrap_or(base.method),
        initial_load,
        capture: capture.unwrap_or(base.capture),
        after: after.unwrap_or(base.after),
        refetch_wait: refetch_wait.unwrap_or(base.refetch_wait),
        on_new_field: on_new_field.unwrap_or(base.on_new_field),
        poll,
        outputs,
        fields: FieldRules { values, ..base.fields },
        condition: base.condition,
        cloud: None,
    }
}

fn values(section: &Section<'_>, base: ValueRules) -> ValueRules {
    let decimals = section
        .choice("decimals", &[("double", Some(Decimals::Double)), ("decimal", Some(Decimals::Decimal))]);
    let compounds = section
        .choice("compounds", &[("none", Some(Compounds::LeftOut)), ("record", Some(Compounds::Record))]);
    let blobs = section.choice(
        "blobs",
        &[
            ("none", Some(Blobs::LeftOut)),
            ("reference", Some(Blobs::Reference)),
            ("include", Some(Blobs::Include)),
        ],
    );
    ValueRules {
        decimals: decimals.unwrap_or(base.decimals),
        compounds: compounds.unwrap_or(base.compounds),
        blobs: blobs.unwrap_or(base.blobs),
    }
}

fn condition(section: &Section<'_>) -> Option<String> {
    let text = section.text("where")?;
    let condition = text.text.trim();
    match condition::check(condition) {
        Ok(()) => Some(condition.to_owned()),
        Err((message, hint)) => {
            section.context().problem(text.place, format!("`where`: {message}"), Some(hint));
            None
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(60 * 60);

fn poll(section: Section<'_>, base: PollSettings) -> PollSettings {
    let day = HOUR * 24;
    let poll = PollSettings {
        interval: section.duration("interval", SECOND..=day).unwrap_or(base.interval),
        max_interval: section.duration("max_interval", SECOND..=day).unwrap_or(base.max_interval),
        // A transaction may run ten minutes; below that a late commit is out of reach.
        look_back: section.duration("look_back", SECOND * 60..=day).unwrap_or(base.look_back),
        settle: section.duration("settle", Duration::ZERO..=SECOND * 600).unwrap_or(base.settle),
        deleted_interval: section
            .duration("deleted_interval", SECOND * 10..=HOUR)
            .unwrap_or(base.deleted_interval),
        bulk_from: section.number("bulk_from", 1..=i64::MAX).unwrap_or(base.bulk_from),
    };
    if poll.interval > poll.max_interval && section.has("max_interval") {
        let place = section.place_of("max_interval");
        section.context().problem(
            place,
            "`poll.max_interval` is shorter than `poll.interval`",
            Some("make it as long or longer"),
        );
    }
    section.finish();
    // A longer interval alone stretches the longest one with it.
    PollSettings { max_interval: poll.max_interval.max(poll.interval), ..poll }
}

fn fields(section: Section<'_>, values: ValueRules) -> FieldRules {
    let names = |key| -> Vec<String> {
        let texts = section.texts(key).unwrap_or_default();
        let (good, bad): (Vec<_>, Vec<_>) = texts.into_iter().partition(|text| is_avro_name(&text.text));
        for text in bad {
            let message = format!("`{}` is no field's API name", text.shown);
            section.context().problem(text.place, message, Some("for example `Description`, `Amount__c`"));
        }
        good.into_iter().map(|text| text.text).collect()
    };
    let rules = FieldRules {
        include: names("include"),
        exclude: names("exclude"),
        hash: names("hash"),
        mask: names("mask"),
        values,
    };
    let lists = [
        ("include", &rules.include),
        ("exclude", &rules.exclude),
        ("hash", &rules.hash),
        ("mask", &rules.mask),
    ];
    let mut known: Vec<(&str, &str)> = Vec::new();
    for (list, names) in lists {
        let key = names.iter().find(|name| name.eq_ignore_ascii_case("Id"));
        if let (Some(name), true) = (key, list != "include") {
            let message = format!("field `{name}` is the key of each record: it stands under `{list}`");
            let hint = format!("take it out of `{list}`");
            section.context().problem(section.place_of(list), message, Some(&hint));
        }
        for name in names {
            let other = known.iter().find(|(_, other)| other.eq_ignore_ascii_case(name));
            if let Some((other, _)) = other.filter(|(other, _)| *other != list) {
                let message = format!("field `{name}` stands under `{other}` and under `{list}`");
                section.context().problem(
                    section.place_of(list),
                    message,
                    Some("keep it in one of the lists"),
                );
            }
            known.push((list, name));
        }
    }
    section.finish();
    rules
}

fn outputs(section: &Section<'_>, pipeline: &str) -> Option<Vec<OutputSettings>> {
    let context = section.context();
    let items = section.list("outputs")?;
    if items.is_empty() {
        context.problem(
            section.place_of("outputs"),
            "`outputs` is empty",
            Some("give one, or leave the key out"),
        );
    }
    let mut outputs: Vec<OutputSettings> = Vec::new();
    for node in items {
        let item = Section::new(context, "outputs[]", node.place, Some(node));
        let output = output(&item, pipeline);
        item.finish();
        let Some(output) = output else { continue };
        if outputs.iter().any(|known| known.topic == output.topic) {
            let message = format!("two outputs with one topic: `{}`", output.topic);
            let hint = "give each output a topic of its own, such as `{name}.{object}__ct`";
            context.problem(node.place, message, Some(hint));
            continue;
        }
        outputs.push(output);
    }
    Some(outputs)
}

fn output(item: &Section<'_>, pipeline: &str) -> Option<OutputSettings> {
    let mut output = OutputSettings::change_table(pipeline);
    let envelope = item.demand("envelope", "this version knows `change-table`", |item| {
        item.choice(
            "envelope",
            &[
                ("change-table", Some(EnvelopeKind::ChangeTable)),
                ("upsert", None),
                ("debezium", None),
                ("qlik", None),
            ],
        )
    });
    item.choice("format", &[("avro", Some(())), ("json", None), ("protobuf", None)]);
    if let Some(key) =
        item.choice("key", &[("record", Some(KeyFormat::Record)), ("string", Some(KeyFormat::Text))])
    {
        output.key = key;
    }
    if let Some(topic) = item.text("topic").filter(|topic| is_topic_template(item.context(), topic)) {
        output.topic = topic.text;
    }
    let prefix = "the beginning of a column's name, such as `header__`";
    if let Some(prefix) =
        item.parsed("header_prefix", prefix, |text| is_avro_name(text).then(|| text.to_owned()))
    {
        output.header_prefix = prefix;
    }
    let namespace = "an Avro namespace such as `salesforce.crm`";
    let is_namespace = |text: &str| text.split('.').all(is_avro_name).then(|| text.to_owned());
    if let Some(namespace) = item.parsed("namespace", namespace, is_namespace) {
        output.namespace = namespace;
    }
    item.not_yet(&[("tombstones", "it belongs to the `debezium` envelope: leave it out")]);
    output.envelope = envelope?;
    Some(output)
}

/// Braces hold a known name, and the rest is what Kafka takes.
fn is_topic_template(context: &Context<'_>, topic: &Text) -> bool {
    let mut rest = topic.text.as_str();
    let mut literal = String::new();
    while let Some((before, after)) = rest.split_once('{') {
        literal.push_str(before);
        let (name, after) = after.split_once('}').unwrap_or((after, ""));
        if name != "name" && name != "object" {
            let hint = match near(name, ["name", "object"].into_iter()) {
                Some(meant) => format!("did you mean `{{{meant}}}`?"),
                None => "`{name}` and `{object}` are put in".to_owned(),
            };
            context.problem(topic.place, format!("topic template with unknown `{{{name}}}`"), Some(&hint));
            return false;
        }
        rest = after;
    }
    literal.push_str(rest);
    let fits = literal.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if !fits {
        let message = format!("`{}` is no topic name", topic.shown);
        context.problem(topic.place, message, Some("use letters, digits, `.`, `_` and `-`"));
    }
    fits
}

/// Kafka's limit.
const LONGEST_TOPIC: usize = 249;

/// No two outputs share a topic, and none takes one of the program's own.
pub(super) fn check_topics(
    context: &Context<'_>,
    settings: &Settings,
    places: &[Place],
    event_places: &[Place],
) {
    let own = [settings.control_topic(), settings.dead_letter_topic(), settings.notification_topic()];
    let mut taken: BTreeMap<String, &str> =
        own.into_iter().map(|topic| (topic, "the program itself")).collect();
    for (object, place) in settings.objects.iter().zip(places) {
        for output in &object.outputs {
            if is_glob(&object.name) {
                if !output.topic.contains("{object}") {
                    let message =
                        format!("topic `{}` would hold every object of `{}`", output.topic, object.name);
                    context.problem(*place, message, Some("put `{object}` into the topic template"));
                }
                continue;
            }
            let topic = output.topic_for(&settings.name, &target_object(&object.name));
            claim(context, &mut taken, topic, &object.name, *place);
        }
    }
    for (event, place) in settings.platform_events.iter().zip(event_places) {
        claim(context, &mut taken, settings.event_topic(&event.name), &event.name, *place);
    }
}

fn claim<'s>(
    context: &Context<'_>,
    taken: &mut BTreeMap<String, &'s str>,
    topic: String,
    of: &'s str,
    place: Place,
) {
    if topic.len() > LONGEST_TOPIC {
        let message = format!("topic `{topic}` is longer than Kafka's {LONGEST_TOPIC} characters");
        context.problem(place, message, Some("choose a shorter `name` or topic template"));
    }
    if let Some(other) = taken.insert(topic.clone(), of) {
        let other = if other == of { "another of its outputs" } else { other };
        let message = format!("topic `{topic}` of `{of}` is also used by {other}");
        context.problem(place, message, Some("give each output a topic of its own"));
    }
}
