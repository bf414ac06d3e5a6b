//! `doc`: the arguments.

use argh::{ArgsInfo, FromArgs};

/// Print documentation that is made from the tables of verbs and options.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "doc", example = "{command_name} example > mta.toml.example")]
pub struct Doc {
    /// what to print
    #[argh(subcommand)]
    pub verb: DocVerb,
}

/// What can be printed.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand)]
pub enum DocVerb {
    /// Manual pages.
    Man(DocMan),
    /// The example configuration.
    Example(DocExample),
    /// Shell completions.
    Completions(DocCompletions),
}

/// Print a manual page: mta-cli or mta.toml.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "man", example = "{command_name} mta.toml | man -l -")]
pub struct DocMan {
    /// the page: mta-cli or mta.toml
    #[argh(positional)]
    pub page: String,
}

/// Print the full example configuration.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "example", example = "{command_name} > mta.toml.example")]
pub struct DocExample {}

/// Print completions for a shell: bash, zsh or fish.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "completions", example = "{command_name} bash")]
pub struct DocCompletions {
    /// the shell: bash, zsh or fish
    #[argh(positional)]
    pub shell: String,
}
