-- lookup(stream): the origin of its pin, if there is one.
local stream = ARGV[4]
local p = pinof(stream)
local url = call('GET', K('url:' .. stream))
if p and not (url and url ~= p.key and p.pubs == 0) then return {'ok', p.pin, p.id, p.origin.value, p.published, seq()} end
local id = url and call('HGET', K'keys', url)
local o = id and origin(id)
if o then return {'ok', '0', o.id, o.value, '0', seq()} end
if url and not id and call('EXISTS', url) == 1 then return {'unknown', url} end
return {'none'}
