// Package machine tells what this process runs on: the facts of /api/machine-info.
//
//	info := machine.Read(machine.System())
//
// What the system does not tell stays empty. Nothing is asked over the network, so that identities which only a cloud's metadata service has are
// not there.
package machine

import (
	"io/fs"
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// Info is what Read found.
type Info struct {
	Hostname     string
	MAC          string // upper-case pairs joined by colons
	Cores        int
	Kernel       string // version
	Platform     string // linux/x86_64
	Distribution string // ubuntu
	OSVersion    string // 24.04
	Memory       int64  // bytes
	Container    string // what runs the container; "" is none, or unknown
	CPU          string // brands, joined by ", "
	MachineID    string // of the installation
}

// Source is where facts come from.
type Source struct {
	Root     fs.FS // of the file system
	Hostname func() (string, error)
	Links    func() ([]net.Interface, error)
	Getenv   func(string) string
}

// System is the machine that we are on.
func System() Source {
	return Source{Root: os.DirFS("/"), Hostname: os.Hostname, Links: net.Interfaces, Getenv: os.Getenv}
}

// Read finds the facts out. It reads some small files.
func Read(s Source) Info {
	i := Info{Cores: runtime.NumCPU(), Platform: runtime.GOOS + "/" + arch(), Container: s.container()}
	i.Hostname, _ = s.Hostname()
	if links, err := s.Links(); err == nil {
		i.MAC = mac(links)
	}
	i.Kernel = s.file("proc/sys/kernel/osrelease")
	for _, name := range [...]string{"etc/machine-id", "var/lib/dbus/machine-id"} {
		if i.MachineID == "" {
			i.MachineID = s.file(name)
		}
	}
	release := s.file("etc/os-release")
	if release == "" {
		release = s.file("usr/lib/os-release")
	}
	for key, value := range pairs(release, "=") {
		switch key {
		case "ID":
			i.Distribution = strings.Trim(value, `"'`)
		case "VERSION_ID":
			i.OSVersion = strings.Trim(value, `"'`)
		}
	}
	for key, value := range pairs(s.file("proc/meminfo"), ":") {
		if n, ok := strings.CutSuffix(value, " kB"); ok && key == "MemTotal" {
			kib, _ := strconv.ParseInt(n, 10, 50)
			i.Memory = kib << 10
		}
	}
	var brands []string
	for key, value := range pairs(s.file("proc/cpuinfo"), ":") {
		if key == "model name" && !slices.Contains(brands, value) {
			brands = append(brands, value)
		}
	}
	i.CPU = strings.Join(brands, ", ")
	return i
}

// file is the content of a file, without white space around it; "" if it can't be read.
func (s Source) file(name string) string {
	b, _ := fs.ReadFile(s.Root, name)
	return strings.TrimSpace(string(b))
}

// pairs yields the key and the value of each line.
func pairs(text, sep string) func(yield func(key, value string) bool) {
	return func(yield func(key, value string) bool) {
		for line := range strings.Lines(text) {
			if key, value, ok := strings.Cut(line, sep); ok && !yield(strings.TrimSpace(key), strings.TrimSpace(value)) {
				return
			}
		}
	}
}

// arch is our architecture as uname has it.
func arch() string {
	switch runtime.GOARCH {
	case "amd64":
		return "x86_64"
	case "arm64":
		return "aarch64"
	case "386":
		return "i686"
	}
	return runtime.GOARCH
}

// mac is the address of the first network interface that has one.
func mac(links []net.Interface) string {
	for _, l := range links {
		if l.Flags&net.FlagLoopback == 0 && len(l.HardwareAddr) == 6 && slices.Max(l.HardwareAddr) > 0 {
			return strings.ToUpper(l.HardwareAddr.String())
		}
	}
	return ""
}

// container is what runs the container that we are in.
func (s Source) container() string {
	has := func(name string) bool {
		_, err := fs.Stat(s.Root, name)
		return err == nil
	}
	switch {
	case s.Getenv("KUBERNETES_SERVICE_HOST") != "":
		return "kubernetes"
	case has(".dockerenv"):
		return "docker"
	case has("run/.containerenv"):
		return "podman"
	}
	return s.Getenv("container") // systemd-nspawn, lxc and others say so
}

// Fingerprint tells machines apart: the ids that there are, or else the MAC address.
func (i *Info) Fingerprint(nodeID string) string {
	var parts []string
	if i.MachineID != "" {
		parts = append(parts, "machine_uid="+i.MachineID)
	}
	if nodeID != "" {
		parts = append(parts, "node_id="+nodeID)
	}
	if len(parts) == 0 {
		parts = append(parts, "mac="+i.MAC)
	}
	return strings.Join(parts, ",")
}
