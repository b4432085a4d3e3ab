-- stats(): streams of each origin, what each proxy serves.
local on = {}
for _, id in ipairs(call('HKEYS', K'origins')) do
  on[#on + 1] = id
  on[#on + 1] = call('SCARD', K('on:' .. id))
end
return {'ok', on, call('HGETALL', K'load')}
