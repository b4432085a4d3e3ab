-- remove(id)
forget(ARGV[4])
return {'ok', seq()}
