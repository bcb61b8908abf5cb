# Sourced by the scripts beside it.

# need COMMAND PACKAGE...: installs the packages if there is no such command.
need() {
    if command -v "$1" >/dev/null; then
        return
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq "${@:2}"
}
