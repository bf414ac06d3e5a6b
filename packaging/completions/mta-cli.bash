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
    ["mta-cli"]="serve status queue backup restore verify config explain probe tlsa dns report --config --version --help"
    ["mta-cli serve"]="--config --help"
    ["mta-cli status"]="--json --config --help"
    ["mta-cli queue"]="list show retry drop --config --help"
    ["mta-cli queue list"]="--to --from --status --limit --after --json --config --help"
    ["mta-cli queue show"]="--json --config --help"
    ["mta-cli queue retry"]="--to --from --status --all --dry-run --json --config --help"
    ["mta-cli queue drop"]="--to --from --status --all --dry-run --yes --json --config --help"
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
    ["mta-cli report"]="tls --config --help"
    ["mta-cli report tls"]="--day --domain --no-dns --json --config --help"
)
complete -F _mta_cli mta-cli
