#!/usr/bin/env bash
# Packs a release archive, named and laid out as cargo-binstall expects it, and prints its path.
#     scripts/archive.sh TARGET PROGRAM [RUNNABLE]
# RUNNABLE is the same program built for this machine, if PROGRAM is for another.
set -euo pipefail

target=$1
program=$2
runnable=${3:-$2}

root=$(cd "$(dirname "$0")/.." && pwd)
name=polyview-$target
folder=$root/target/archives/$name

rm -rf "$folder"
mkdir -p "$folder/completions" "$folder/man"
case $target in
    *-windows-*) cp "$program" "$folder/polyview.exe" ;;
    *) cp "$program" "$folder/polyview" ;;
esac
cp "$root/README.md" "$root/LICENSE-APACHE" "$root/LICENSE-MIT" "$folder"

"$runnable" completions bash >"$folder/completions/polyview.bash"
"$runnable" completions zsh >"$folder/completions/_polyview"
"$runnable" completions fish >"$folder/completions/polyview.fish"
"$runnable" completions powershell >"$folder/completions/_polyview.ps1"
"$runnable" completions elvish >"$folder/completions/polyview.elv"
"$runnable" man --out-dir "$folder/man"

cd "$root/target/archives"
case $target in
    *-windows-*)
        archive=$name.zip
        rm -f "$archive"
        7z a -bso0 "$archive" "$name"
        ;;
    *)
        archive=$name.tar.gz
        # Without this, macOS adds a ._ file for each file with extended attributes.
        COPYFILE_DISABLE=1 tar -czf "$archive" "$name"
        ;;
esac
echo "target/archives/$archive"
