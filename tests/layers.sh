#!/usr/bin/env bash
# Layer directions are enforced by the build: in a scratch copy of the tree, each source that includes a
# header of a layer that it must not see does not compile; each that includes one that it may see does.
set -euo pipefail
cd "$(dirname "$0")/.."

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cp -r meson.build include src tests "$scratch"
[ ! -e meson_options.txt ] || cp meson_options.txt "$scratch"
meson setup "$scratch/build" "$scratch" >/dev/null

n_passed=0
n_failed=0

result() # WORDS OK?
{
	if [ "$2" = yes ]; then
		n_passed=$((n_passed + 1))
	else
		n_failed=$((n_failed + 1))
		echo "layers: FAILED: $1"
	fi
}

# compiles LAYER HEADER: whether a source file of the layer still compiles when it includes the header
compiles()
{
	local source object saved status=0
	source=$(find "$scratch/src/$1" -name '*.c' | sort | head -n 1)
	object=$(ninja -C "$scratch/build" -t targets all |
		sed -n "s|^\(src/$1/.*_$(basename "$source")\.o\): .*|\1|p;s|^\(src/$1/.*/$(basename "$source")\.o\): .*|\1|p" |
		head -n 1)
	saved=$(mktemp -p "$scratch")
	cp "$source" "$saved"
	printf '#include "%s"\n' "$2" | cat - "$saved" >"$source"
	ninja -C "$scratch/build" "$object" >"$scratch/log" 2>&1 || status=1
	cp "$saved" "$source"
	return "$status"
}

# Of each layer, any public header: one name is as good as another.
header_of()
{
	basename "$(find "$scratch/include/$1" -name '*.h' | sort | head -n 1)"
}

may() # LAYER OTHER
{
	if compiles "$1" "$(header_of "$2")"; then
		result "$1 may include $2" yes
	else
		cat "$scratch/log"
		result "$1 may include $2" no
	fi
}

# It must fail, and for this reason: no such header.
must_not() # LAYER OTHER
{
	local header
	header=$(header_of "$2")
	if ! compiles "$1" "$header" && grep -q "fatal error: $header: No such file" "$scratch/log"; then
		result "$1 must not include $2" yes
	else
		result "$1 must not include $2" no
	fi
}

must_not base seal
must_not base store
must_not base vault
must_not base fs
must_not base supervise
must_not seal store
must_not seal vault
must_not seal fs
must_not store seal
must_not store vault
must_not store fs
must_not vault fs
must_not vault supervise
must_not fs supervise
must_not supervise seal
must_not supervise store
must_not supervise vault
must_not supervise fs

may seal base
may store base
may vault seal
may vault store
may fs vault
may supervise base

# An include with a path in it would go round all of this.
if grep -rnE '#include "[^"]*/' "$scratch/include" "$scratch/src"; then
	result "no include names a path" no
else
	result "no include names a path" yes
fi

# So would a library called from where it has no business.
only_in() # HEADER PATH...
{
	local strays
	strays=$(grep -rlE "#include <$1" "$scratch/include" "$scratch/src" |
		sed "s|^$scratch/||" | grep -vE "^($(IFS='|' && echo "${*:2}"))" || true)
	[ -z "$strays" ] || echo "$strays"
	result "$1 is included only where it belongs" "$([ -z "$strays" ] && echo yes || echo no)"
}
only_in sodium.h src/seal/ src/base/arena.c
only_in sqlite3.h src/store/
only_in fuse_lowlevel.h src/fs/ include/fs/

echo "layers: $n_passed passed, $n_failed failed"
[ "$n_failed" = 0 ]
