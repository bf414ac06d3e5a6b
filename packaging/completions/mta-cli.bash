# bash completion for mta-cli; generated from its table of verbs.
_mta_cli() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} path=mta-cli word
    case $prev in
        --config|-c|--chain) COMPREPLY=($(compgen -f -- "$cur")); return ;;
    esac
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        case $word in -*) ;; *) [[ -n ${_mta_cli_words["$path $word"]+x} ]] && path="$path $word" ;; esac
    done
    COMPREPLY=($(compgen -W "${_mta_cli_words["$path"]}" -- "$cur"))
}
declare -gA _mta_cli_words=(
    ["mta-cli"]="serve deliver status queue dest pause resume trace top log alias backup restore verify config explain probe tlsa dns dkim report --config --version --help"
    ["mta-cli serve"]="--config --help"
    ["mta-cli deliver"]="--child --config --help"
    ["mta-cli status"]="--json --config --help"
    ["mta-cli queue"]="list summary show retry hold release drop bounce redirect reroute hold-rule --config --help"
    ["mta-cli queue list"]="--to --from --domain --status --older-than --newer-than --reason --next-hop --limit --after --json --jsonl --config --help"
    ["mta-cli queue summary"]="--by --limit --json --jsonl --config --help"
    ["mta-cli queue show"]="--headers --body --raw --max-bytes --json --config --help"
    ["mta-cli queue retry"]="--to --from --domain --status --older-than --newer-than --reason --next-hop --all --dry-run --json --config --help"
    ["mta-cli queue hold"]="--to --from --domain --status --older-than --newer-than --reason --next-hop --note --all --dry-run --json --config --help"
    ["mta-cli queue release"]="--to --from --domain --status --older-than --newer-than --reason --next-hop --all --dry-run --json --config --help"
    ["mta-cli queue drop"]="--to --from --domain --status --older-than --newer-than --reason --next-hop --note --all --dry-run --yes --json --config --help"
    ["mta-cli queue bounce"]="--to --from --domain --status --older-than --newer-than --reason --next-hop --note --all --dry-run --yes --json --config --help"
    ["mta-cli queue redirect"]="--to --rcpt --note --dry-run --yes --json --config --help"
    ["mta-cli queue reroute"]="--to --from --domain --status --older-than --newer-than --reason --next-hop --via --all --dry-run --yes --json --config --help"
    ["mta-cli queue hold-rule"]="add list remove --config --help"
    ["mta-cli queue hold-rule add"]="--to --from --reason --until --json --config --help"
    ["mta-cli queue hold-rule list"]="--json --jsonl --config --help"
    ["mta-cli queue hold-rule remove"]="--json --config --help"
    ["mta-cli dest"]="show pause resume reset --config --help"
    ["mta-cli dest show"]="--limit --json --jsonl --config --help"
    ["mta-cli dest pause"]="--reason --until --json --config --help"
    ["mta-cli dest resume"]="--json --config --help"
    ["mta-cli dest reset"]="--json --config --help"
    ["mta-cli pause"]="--reason --until --json --config --help"
    ["mta-cli resume"]="--json --config --help"
    ["mta-cli trace"]="--rcpt --from --msgid --limit --json --jsonl --config --help"
    ["mta-cli top"]="--interval --once --json --config --help"
    ["mta-cli log"]="--follow --qid --event --level --lines --jsonl --json --config --help"
    ["mta-cli alias"]="add delete list show check --config --help"
    ["mta-cli alias add"]="--keep --json --config --help"
    ["mta-cli alias delete"]="--json --config --help"
    ["mta-cli alias list"]="--json --config --help"
    ["mta-cli alias show"]="--json --config --help"
    ["mta-cli alias check"]="--file --json --config --help"
    ["mta-cli backup"]="--force --json --config --help"
    ["mta-cli restore"]="--force --json --config --help"
    ["mta-cli verify"]="--repair --json --config --help"
    ["mta-cli config"]="check show --config --help"
    ["mta-cli config check"]="--json --config --help"
    ["mta-cli config show"]="--diff --defaults --json --config --help"
    ["mta-cli explain"]="--json --config --help"
    ["mta-cli probe"]="--timeout --deadline --json --config --help"
    ["mta-cli tlsa"]="make verify check --config --help"
    ["mta-cli tlsa make"]="--cert --key --host --port --usage --selector --matching --force --json --config --help"
    ["mta-cli tlsa verify"]="--tlsa --chain --reference-id --time --json --config --help"
    ["mta-cli tlsa check"]="--timeout --json --config --help"
    ["mta-cli dns"]="lookup --config --help"
    ["mta-cli dns lookup"]="--json --config --help"
    ["mta-cli dkim"]="make import list record rotate retire check --config --help"
    ["mta-cli dkim make"]="--algorithm --selector --json --config --help"
    ["mta-cli dkim import"]="--json --config --help"
    ["mta-cli dkim list"]="--json --config --help"
    ["mta-cli dkim record"]="--json --config --help"
    ["mta-cli dkim rotate"]="--json --config --help"
    ["mta-cli dkim retire"]="--yes --json --config --help"
    ["mta-cli dkim check"]="--json --config --help"
    ["mta-cli report"]="tls --config --help"
    ["mta-cli report tls"]="--day --domain --no-dns --json --config --help"
)
complete -F _mta_cli mta-cli
