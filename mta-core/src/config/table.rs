//! The table of options: each key once, with its type, default, text and example.
//!
//! The rows stand in `options`, by section. This file holds what a row is, how a row reaches its field of [`Config`],
//! and the lookups over the whole table.

use std::sync::LazyLock;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::types::{DomainName, DomainPattern};
use super::value::{OptionType, Problem};
use super::{Config, Destination, OwnDomain, options};

/// The way from a configuration to one field. The text is the name of the table's instance (`example.org` in
/// `[domain."example.org"]`), empty for options that exist once.
pub(super) type Lens<T> = for<'a> fn(&'a mut Config, &str) -> &'a mut T;

/// One row of the table.
pub struct OptionSpec {
    /// The full dotted key; `*` stands for a name that the administrator chooses.
    pub key: &'static str,
    /// The default, as TOML.
    pub default: &'static str,
    /// What it does: one paragraph.
    pub text: &'static str,
    /// A value as an administrator may write it, as TOML.
    pub example: &'static str,
    /// The first version that has it.
    pub since: &'static str,
    access: Box<dyn Access>,
}

/// What can be done with an option's field, whatever its type.
trait Access: Send + Sync {
    fn type_name(&self) -> String;
    fn expected(&self) -> String;
    fn set(&self, config: &mut Config, name: &str, value: &Spanned<DeValue<'_>>) -> Result<(), Problem>;
    fn get(&self, config: &mut Config, name: &str) -> String;
}

/// A field of type `T`, perhaps with bounds.
struct Field<T> {
    at: Lens<T>,
    range: Option<(T, T)>,
}

impl<T: OptionType + PartialOrd + Send + Sync> Access for Field<T> {
    fn type_name(&self) -> String {
        T::type_name()
    }

    fn expected(&self) -> String {
        match &self.range {
            Some((low, high)) => format!("{}, from {} to {}", T::expected(), low.write(), high.write()),
            None => T::expected(),
        }
    }

    fn set(&self, config: &mut Config, name: &str, value: &Spanned<DeValue<'_>>) -> Result<(), Problem> {
        let read = T::read(value)?;
        if self.range.as_ref().is_some_and(|(low, high)| read < *low || read > *high) {
            let found = format!("found {}", super::value::show(value.get_ref()));
            return Err(Problem { found, span: value.span() });
        }
        *(self.at)(config, name) = read;
        Ok(())
    }

    fn get(&self, config: &mut Config, name: &str) -> String {
        (self.at)(config, name).write()
    }
}

/// A field whose type has no order, so no bounds.
struct Unordered<T> {
    at: Lens<T>,
}

impl<T: OptionType + Send + Sync> Access for Unordered<T> {
    fn type_name(&self) -> String {
        T::type_name()
    }
    fn expected(&self) -> String {
        T::expected()
    }
    fn set(&self, config: &mut Config, name: &str, value: &Spanned<DeValue<'_>>) -> Result<(), Problem> {
        *(self.at)(config, name) = T::read(value)?;
        Ok(())
    }
    fn get(&self, config: &mut Config, name: &str) -> String {
        (self.at)(config, name).write()
    }
}

/// A row: key, default, example, field and text.
pub(super) fn option<T: OptionType + Send + Sync>(
    key: &'static str,
    default: &'static str,
    example: &'static str,
    at: Lens<T>,
    text: &'static str,
) -> OptionSpec {
    OptionSpec { key, default, text, example, since: "0.1.0", access: Box::new(Unordered { at }) }
}

/// A row whose value lies between two bounds, both included.
pub(super) fn bounded<T: OptionType + PartialOrd + Send + Sync>(
    key: &'static str,
    default: &'static str,
    range: (T, T),
    at: Lens<T>,
    text: &'static str,
) -> OptionSpec {
    let access = Box::new(Field { at, range: Some(range) });
    OptionSpec { key, default, text, example: default, since: "0.1.0", access }
}

impl OptionSpec {
    /// The type's name, as the manual gives it.
    pub fn type_name(&self) -> String {
        self.access.type_name()
    }

    /// What to write, in words.
    pub fn expected(&self) -> String {
        self.access.expected()
    }

    /// The table it stands in: `smtp`, `domain.*`, empty for the top.
    pub fn section(&self) -> &'static str {
        self.key.rsplit_once('.').map_or("", |(section, _)| section)
    }

    /// The last part of the key.
    pub fn name(&self) -> &'static str {
        self.key.rsplit_once('.').map_or(self.key, |(_, name)| name)
    }

    /// The key with the instance's name in place of the star.
    pub fn key_of(&self, instance: &str) -> String {
        self.key.replace('*', &quoted_part(instance))
    }

    /// Its value in `config`, as TOML.
    pub fn value(&self, config: &Config, instance: &str) -> String {
        self.access.get(&mut config.clone(), instance)
    }

    /// Sets it.
    pub(super) fn set(
        &self,
        config: &mut Config,
        instance: &str,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<(), Problem> {
        self.access.set(config, instance, value)
    }

    /// Sets it to its default. That every default can be read is tested.
    fn set_default(&self, config: &mut Config, instance: &str) {
        let line = format!("v = {}", self.default);
        let table = DeTable::parse(&line);
        let value = table.as_ref().ok().and_then(|t| t.get_ref().get("v"));
        let set = value.map(|v| self.set(config, instance, v));
        debug_assert!(matches!(set, Some(Ok(()))), "default of {}: {:?}", self.key, set);
    }

    /// The names of the instances that `config` has of this option's table; one empty name where it exists once.
    pub fn instances(&self, config: &Config) -> Vec<String> {
        match self.key.split_once(".*") {
            None => vec![String::new()],
            Some(("domain", _)) => config.domains.keys().map(ToString::to_string).collect(),
            Some(_) => config.destinations.keys().map(ToString::to_string).collect(),
        }
    }
}

/// A part of a dotted key, quoted where TOML needs it.
pub(super) fn quoted_part(part: &str) -> String {
    let bare = !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if bare { part.to_owned() } else { super::value::quote(part) }
}

/// Every option, in the order of the manual.
pub fn all() -> &'static [OptionSpec] {
    static ALL: LazyLock<Vec<OptionSpec>> = LazyLock::new(options::all);
    &ALL
}

/// What a section is about: its key and one or two sentences.
pub fn sections() -> &'static [(&'static str, &'static str)] {
    options::SECTIONS
}

/// The configuration that the table's defaults make.
pub(super) fn defaults() -> Config {
    let mut config = Config::blank();
    for spec in all().iter().filter(|spec| !spec.key.contains('*')) {
        spec.set_default(&mut config, "");
    }
    config
}

/// The own domain `name`, made with the defaults if new. Names were checked by [`instance_name`].
pub(super) fn own_domain<'a>(config: &'a mut Config, name: &str) -> &'a mut OwnDomain {
    let key = DomainName::parse(name).unwrap_or_else(|_| DomainName::localhost());
    config.domains.entry(key).or_default()
}

/// The destination `name`, made with the defaults if new. Names were checked by [`instance_name`].
pub(super) fn destination<'a>(config: &'a mut Config, name: &str) -> &'a mut Destination {
    let key = DomainPattern::parse(name).unwrap_or_else(|_| DomainPattern::localhost());
    config.destinations.entry(key).or_default()
}

/// Makes the instance `name` of the table `section` with its defaults, unless it exists.
///
/// # Errors
/// What is wrong with the name.
pub(super) fn instance_name(config: &mut Config, section: &str, name: &str) -> Result<String, String> {
    let (name, exists) = if section == "domain" {
        let key = DomainName::parse(name)?;
        (key.to_string(), config.domains.contains_key(&key))
    } else {
        let key = DomainPattern::parse(name)?;
        (key.to_string(), config.destinations.contains_key(&key))
    };
    if !exists {
        let prefix = format!("{section}.*.");
        for spec in all().iter().filter(|spec| spec.key.starts_with(&prefix)) {
            spec.set_default(config, &name);
        }
    }
    Ok(name)
}
