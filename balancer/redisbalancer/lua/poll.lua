-- poll(epoch's life, proxy, what it serves, time of that): keeps the state alive, ends what has expired.
local life, proxy, serves, ttl = ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7])

call('PEXPIRE', K'epoch', life)
for _, name in ipairs({'all-servers', 'origins', 'expiry', 'keys', 'pins', 'held', 'idle', 'events', 'seq', 'last', 'load'}) do
  call('PEXPIRE', K(name), LIFE)
end
for _, id in ipairs(call('ZRANGEBYSCORE', K'expiry', '-inf', now, 'LIMIT', 0, 100)) do
  local key = string.match(call('HGET', K'origins', id) or '', '^%d+\n%d\n([^\n]*)\n')
  local left = key and call('PTTL', key) or -2
  if left > 0 then -- refreshed by the existing proxy
    call('ZADD', K'expiry', int(now + left), id)
  elseif key then
    forget(id)
  else
    call('ZREM', K'expiry', id)
  end
end
for _, zset in ipairs({'held', 'idle'}) do
  for _, stream in ipairs(call('ZRANGEBYSCORE', K(zset), '-inf', now, 'LIMIT', 0, 100)) do
    local p = pinof(stream)
    if not p then
      call('ZREM', K(zset), stream)
    elseif zset == 'held' then
      keep(p)
    else
      drop(p)
    end
  end
end
local load = call('HGETALL', K'load')
for i = 1, #load, 2 do
  if tonumber(string.match(load[i + 1], '^(%d+)\n')) <= now then call('HDEL', K'load', load[i]) end
end
call('HSET', K'load', proxy, int(now + ttl) .. '\n' .. serves)
return {'ok', seq()}
