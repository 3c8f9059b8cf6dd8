package machine_test

import (
	"errors"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/mtakit/mtakit/internal/machine"
)

func file(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }

func TestRead(t *testing.T) {
	t.Parallel()
	full := machine.Source{
		Root: fstest.MapFS{
			"etc/machine-id":            file("0123abcd\n"),
			"etc/os-release":            file("NAME=\"Ubuntu\"\nVERSION_ID=\"24.04\"\nID=ubuntu\nID_LIKE=debian\n"),
			"proc/sys/kernel/osrelease": file("6.1.0-x\n"),
			"proc/meminfo":              file("MemTotal:       16384 kB\nMemFree:  1 kB\n"),
			"proc/cpuinfo":              file("processor\t: 0\nmodel name\t: Fast CPU @ 3GHz\n\nprocessor\t: 1\nmodel name\t: Fast CPU @ 3GHz\nprocessor\t: 2\nmodel name\t: Slow CPU\n"),
			".dockerenv":                file(""),
		},
		Hostname: func() (string, error) { return "mx1.example", nil },
		Links: func() ([]net.Interface, error) {
			return []net.Interface{
				{Flags: net.FlagLoopback, HardwareAddr: net.HardwareAddr{1, 2, 3, 4, 5, 6}}, {HardwareAddr: make(net.HardwareAddr, 6)}, {},
				{HardwareAddr: net.HardwareAddr{0x0a, 0xbc, 0, 1, 2, 0xff}},
			}, nil
		},
		Getenv: func(string) string { return "" },
	}
	got := machine.Read(full)
	if _, arch, _ := strings.Cut(got.Platform, "/"); got.Cores != runtime.NumCPU() || !strings.HasPrefix(got.Platform, runtime.GOOS+"/") || arch == "" || arch == "amd64" {
		t.Errorf("%+v", got)
	}
	got.Cores, got.Platform = 0, ""
	want := machine.Info{
		Hostname: "mx1.example", MAC: "0A:BC:00:01:02:FF", Kernel: "6.1.0-x", Distribution: "ubuntu", OSVersion: "24.04", Memory: 16 << 20,
		Container: "docker", CPU: "Fast CPU @ 3GHz, Slow CPU", MachineID: "0123abcd",
	}
	if got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if s := got.Fingerprint("n"); s != "machine_uid=0123abcd,node_id=n" {
		t.Error(s)
	}

	none := machine.Source{
		Root: fstest.MapFS{}, Hostname: func() (string, error) { return "", errors.New("none") },
		Links: func() ([]net.Interface, error) { return nil, errors.New("none") }, Getenv: func(string) string { return "" },
	}
	got = machine.Read(none)
	got.Cores, got.Platform = 0, ""
	if got != (machine.Info{}) || got.Fingerprint("") != "mac=" {
		t.Errorf("of nothing: %+v, %q", got, got.Fingerprint(""))
	}
	for _, c := range []struct{ file, env, want string }{
		{"run/.containerenv", "", "podman"}, {"x", "container", "lxc"}, {".dockerenv", "KUBERNETES_SERVICE_HOST", "kubernetes"},
	} {
		s := none
		s.Root = fstest.MapFS{c.file: file("")}
		s.Getenv = func(name string) string {
			if name == c.env && name != "" {
				return "lxc"
			}
			return ""
		}
		if got := machine.Read(s).Container; got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
	if i := machine.Read(machine.System()); i.Cores == 0 {
		t.Errorf("%+v", i)
	}
}
