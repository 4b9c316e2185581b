-- The application's user may make databases whose name begins with its own: tests do.
GRANT ALL PRIVILEGES ON `hongyan%`.* TO 'hongyan'@'%';
