-- sync(): all that proxies keep a copy of.
return {'ok', seq(), call('HGETALL', K'origins'), call('HGETALL', K'pins')}
