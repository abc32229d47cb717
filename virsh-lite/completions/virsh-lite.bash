# bash completion for virsh-lite: the program itself knows what fits.
_virsh_lite() {
    local current=${COMP_WORDS[COMP_CWORD]} line word head
    read -r -a line <<<"${COMP_LINE:0:COMP_POINT}"
    [[ ${COMP_LINE:0:COMP_POINT} == *[[:space:]] ]] && line+=("")
    word=${line[${#line[@]} - 1]}
    # bash cuts words at ':' and '=' and wants only the part behind the cut.
    head=
    case $word in *[:=]*) [[ $current == [:=] ]] && current=
        head=${word%"$current"} ;; esac
    COMPREPLY=()
    while IFS= read -r word; do
        COMPREPLY+=("$(printf %q "${word#"$head"}")")
    done < <("${line[0]}" complete -- "${line[@]:1}" 2>/dev/null)
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == */ ]] && compopt -o nospace
    return 0
}
complete -F _virsh_lite virsh-lite
