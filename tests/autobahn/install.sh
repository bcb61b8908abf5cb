#!/bin/sh
# Installs the Autobahn|Testsuite under target/ and prints its command. Its package wants Python 2.7, which pyenv
# has (`pyenv install 2.7`): without one this says so and ends with 3.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
folder=${CARGO_TARGET_DIR:-$root/target}/autobahn
python=
for it in "$(command -v python2.7 || true)" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/2.7.*/bin/python; do
    # The shim of pyenv is there also where its Python is not the one in use.
    if [ -x "$it" ] && "$it" -c 'import sys, pip; sys.exit(sys.version_info[:2] != (2, 7))' 2>/dev/null; then
        python=$it
    fi
done
if [ -z "$python" ]; then
    echo 'the Autobahn|Testsuite wants Python 2.7, and there is none here' >&2
    exit 3
fi
if ! cmp -s "$here/requirements.txt" "$folder/requirements.txt"; then
    rm -rf "$folder"
    mkdir -p "$folder"
    "$python" -m pip install --quiet --disable-pip-version-check --target "$folder/packages" \
        -r "$here/requirements.txt" 2>"$folder/pip.log" >&2 || { cat "$folder/pip.log" >&2; exit 1; }
    cat >"$folder/wstest" <<END
#!/bin/sh
# Not by PYTHONPATH, which would not read the .pth files of the packages.
exec '$python' -c 'import site; site.addsitedir("$folder/packages"); from autobahntestsuite.wstest import run; run()' "\$@"
END
    chmod +x "$folder/wstest"
    cp "$here/requirements.txt" "$folder/requirements.txt"
fi
echo "$folder/wstest"
