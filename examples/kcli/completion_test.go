package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Each shell, where it is installed, reads its script and offers what kcli says. The test's program is the kcli that it asks.
func TestShells(t *testing.T) {
	t.Parallel()
	daemon := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `[{"id":"169c3dad-4f2b","reason":"it's \"bought\": $x"},{"id":"4f0c9d18-0a6e","reason":"y"}]`)
	}))
	t.Cleanup(daemon.Close)
	bin := t.TempDir()
	self, err := os.Executable()
	if err == nil {
		err = os.Symlink(self, filepath.Join(bin, "kcli"))
	}
	if err != nil {
		t.Fatal(err)
	}
	for shell, ask := range map[string]string{
		"bash": `source <(kcli completion bash)
COMP_LINE=$LINE COMP_POINT=${#LINE} COMP_WORDS=($CUT) COMP_CWORD=$((${#COMP_WORDS[@]}-1))
[[ $LINE == *' ' ]] && COMP_WORDS+=("") && COMP_CWORD=$((COMP_CWORD+1))
_kcli
printf '%s\n' "${COMPREPLY[@]}"`,
		// What zsh would offer, without a terminal: _describe is told the candidates.
		"zsh": `compdef() { : }
_default() { : }
_describe() { local c; for c in $candidates; do print -r -- "${c%%:*}"; done }
source <(kcli completion zsh)
words=(${=LINE}); [[ $LINE == *' ' ]] && words+=(""); CURRENT=$#words
_kcli`,
		"fish": `kcli completion fish | source
complete -C "$LINE" | string replace -r '\t.*' ''
true`,
	} {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			path, err := exec.LookPath(shell)
			if err != nil {
				t.Skip("not installed")
			}
			for _, c := range []struct {
				line string
				want []string
			}{
				{"kcli bounce-", []string{"bounce-cancel", "bounce-list"}},
				{"kcli completion ", []string{"bash", "fish", "zsh"}},
				{"kcli --endpoint " + daemon.URL + " bounce-cancel --id ", []string{"169c3dad-4f2b", "4f0c9d18-0a6e"}},
				{"kcli --endpoint=" + daemon.URL + " bounce-cancel --id 4", []string{"4f0c9d18-0a6e"}},
				{"kcli bounce --suppress-", []string{"--suppress-logging"}},
				{"kcli trace-smtp-server --color=y", []string{"--color=yes"}},
			} {
				cmd := exec.CommandContext(t.Context(), path, "-c", ask)
				cmd.Env = append(os.Environ(), asKcli+"=1", "PATH="+bin+":"+os.Getenv("PATH"), "HOME="+bin, "LINE="+c.line,
					"CUT="+strings.NewReplacer(":", " : ", "=", " = ").Replace(c.line))
				out, err := cmd.CombinedOutput()
				got := strings.Fields(string(out))
				slices.Sort(got)
				if shell == "bash" && strings.Contains(c.line, "--color=") {
					c.want = []string{"yes"} // the part after the =
				}
				if err != nil || !slices.Equal(got, c.want) {
					t.Errorf("%q is completed by %q, want %q; %v", c.line, got, c.want, err)
				}
			}
		})
	}
}
