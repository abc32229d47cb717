# bash completion for virsh-lite: the program itself knows what fits.
_virsh_lite() {
    local line=${COMP_LINE:0:COMP_POINT} current=${COMP_WORDS[COMP_CWORD]} word head=
    # bash cuts words at ':' and '=' and wants only the part behind the cut.
    word=${line##*[[:space:]]}
    if [[ $word == *[:=]* ]]; then
        [[ $current == [:=] ]] && current=
        head=${word%"$current"}
    fi
    COMPREPLY=()
    while IFS= read -r word; do
        COMPREPLY+=("$(printf %q "${word#"$head"}")")
    done < <("${COMP_WORDS[0]/#\~/$HOME}" complete --line "$line" 2>/dev/null)
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == */ ]] && compopt -o nospace
    return 0
}
complete -F _virsh_lite virsh-lite
