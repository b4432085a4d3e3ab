-- update(id, service, state, server's key, origin as JSON, time to live, record for the
-- existing proxy, how): how is "update", "adopt" for a server that the existing proxy
-- registered, or "restore" for one that the store lost; the last two change none that is known.
-- But one that is restored has its time anew: who was told of its heartbeats may come later.
local id, service, state, key, json = ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local ttl, record, how = tonumber(ARGV[9]), ARGV[10], ARGV[11]

local old = call('HGET', K'origins', id)
if how ~= 'update' and (old or call('HGET', K'keys', key)) then
  local _, _, oldkey, oldservice = string.match(old or '', '^(%d+)\n(%d)\n([^\n]*)\n([^\n]*)\n')
  if how == 'restore' and oldkey == key and oldservice == service then
    call('ZADD', K'expiry', int(now + ttl), id)
    local left = call('PTTL', key) -- the existing proxy's record stays its own
    if left == -2 then call('SET', key, record, 'PX', int(ttl)) elseif left ~= -1 and left < ttl then call('PEXPIRE', key, int(ttl)) end
    list(key)
  end
  return {'ok', seq()}
end
local inc, oldkey, oldservice
if old then
  inc, oldkey, oldservice = string.match(old, '^(%d+)\n%d\n([^\n]*)\n([^\n]*)\n')
  if oldservice ~= service then
    forget(id)
    inc = nil
  elseif oldkey ~= key then
    call('HDEL', K'keys', oldkey)
    call('UNLINK', oldkey)
    list(nil, oldkey)
  end
end
inc = inc or int(call('INCR', K'last'))
local value = inc .. '\n' .. state .. '\n' .. key .. '\n' .. service .. '\n' .. json
if how == 'adopt' then
  ttl = call('PTTL', key)
  if ttl == -2 then return {'ok', seq()} end
  if ttl == -1 then ttl = LIFE end
else
  call('SET', key, record, 'PX', int(ttl))
  list(key)
end
call('ZADD', K'expiry', int(now + ttl), id)
call('HSET', K'keys', key, id)
if value ~= old then
  call('HSET', K'origins', id, value)
  event('o', id, value)
end
return {'ok', seq(), value}
