# fish completion for virsh-lite: the program itself knows what fits.
complete -c virsh-lite -f -a '(virsh-lite complete --describe -- (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null)'
