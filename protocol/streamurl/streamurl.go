// Package streamurl finds the stream that a URL means, as SRS reads it.
//
//	rtmp://host/app?vhost=v + "name?token=t"  ─┐
//	http://host/app/name.flv?vhost=v          ─┼▶ {Vhost, App, Name}
//	srt streamid, WHIP query                  ─┘
//
// Pure code: no sockets, no state. Host names that the origins do not know fold
// into SRS's default vhost, on every protocol alike.
package streamurl
