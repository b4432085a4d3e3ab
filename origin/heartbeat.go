package origin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"
)

// heartbeatTimeout is well below any sensible interval.
const heartbeatTimeout = 3 * time.Second

// beat is what SRS posts (srs_app_heartbeat.cpp).
type beat struct {
	DeviceID string   `json:"device_id"`
	IP       string   `json:"ip"`
	Server   string   `json:"server"`
	Service  string   `json:"service"`
	PID      string   `json:"pid"`
	RTMP     []string `json:"rtmp,omitempty"`
	HTTP     []string `json:"http,omitempty"`
	API      []string `json:"api,omitempty"`
	SRT      []string `json:"srt,omitempty"`
	RTC      []string `json:"rtc,omitempty"`
}

// runHeartbeat posts at once and then every interval. A failure is reported when
// it begins and when it ends, not each time.
func (o *Origin) runHeartbeat(ctx context.Context) {
	hb := o.cfg.Heartbeat
	transport := &http.Transport{DisableKeepAlives: true}
	client := &http.Client{Timeout: heartbeatTimeout, Transport: transport}
	tick := time.NewTicker(hb.Interval)
	defer tick.Stop()
	failing := false
	for {
		err := o.heartbeat(ctx, client)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && !failing:
			o.log.Warn("heartbeat", "err", err)
		case err == nil && failing:
			o.log.Info("heartbeat works again")
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (o *Origin) heartbeat(ctx context.Context, client *http.Client) error {
	hb := o.cfg.Heartbeat
	b := beat{
		DeviceID: hb.DeviceID, IP: hb.IP,
		Server: o.serverID, Service: o.serviceID, PID: strconv.Itoa(o.procs.pid()),
	}
	if b.IP == "" {
		b.IP = localIP()
	}
	if hb.Ports {
		b.RTMP, b.HTTP, b.API = barePorts(o.cfg.RTMPListen), barePorts(o.cfg.HTTPListen), barePorts(o.cfg.APIListen)
		b.SRT = endpoint(b.SRT, "udp", o.cfg.SRT.Listen)
		b.RTC = endpoint(endpoint(b.RTC, "udp", o.cfg.RTC.Listen), "tcp", o.cfg.RTC.TCPListen)
	}
	body, err := json.Marshal(b)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, hb.URL, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("heartbeat url: %w", redact(err))
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return redact(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("answered %s", resp.Status)
	}
	return nil
}

// barePorts are listeners in the form that SRS has for TCP: what its config says, which
// is a port alone where it listens at all addresses. Some proxies take nothing else.
func barePorts(listeners []string) []string {
	all := make([]string, len(listeners))
	for i, l := range listeners {
		all[i] = l
		if addr, err := netip.ParseAddrPort(l); err == nil && addr.Addr().IsUnspecified() {
			all[i] = strconv.Itoa(int(addr.Port()))
		}
	}
	return all
}

// endpoint adds a listener in the form that SRS has for those with a protocol.
func endpoint(all []string, proto, listen string) []string {
	if listen == "" {
		return all
	}
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		host, port = "", listen // a port alone
	}
	if host == "" {
		host = "0.0.0.0"
	}
	return append(all, proto+"://"+net.JoinHostPort(host, port))
}

// redact drops the URL from an error: a token may ride in its path.
func redact(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// localIP is the first address that others may reach, else loopback.
func localIP() string {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return "127.0.0.1"
	}
	for _, a := range addrs {
		if ip, ok := a.(*net.IPNet); ok && !ip.IP.IsLoopback() && ip.IP.To4() != nil {
			return ip.IP.String()
		}
	}
	return "127.0.0.1"
}
