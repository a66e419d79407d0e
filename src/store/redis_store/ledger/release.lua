-- Gives a lease back, if the one who asks holds it.
--
-- KEYS  the lease   ARGV  1 who asks   2 the channel of changes
if redis.call('HGET', KEYS[1], 'holder') ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
redis.pcall('PUBLISH', ARGV[2], 'released')
return 1
