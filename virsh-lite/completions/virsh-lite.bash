# bash completion for virsh-lite: the program itself knows what fits, and how it is quoted where the cursor is.
_virsh_lite() {
    local line=${COMP_LINE:0:COMP_POINT} word
    COMPREPLY=()
    while IFS= read -r word; do
        COMPREPLY+=("$word")
    done < <("${COMP_WORDS[0]/#\~/$HOME}" complete --bash="$COMP_WORDBREAKS" --line "$line" 2>/dev/null)
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == */ ]] && compopt -o nospace
    return 0
}
complete -F _virsh_lite virsh-lite
