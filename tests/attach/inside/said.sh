# Says of a command whether it succeeds.
said() {
	name=$1
	shift
	if "$@" >/tmp/said 2>&1; then
		echo "$name: yes"
	else
		echo "$name: no"
		cat /tmp/said >&2
	fi
}
