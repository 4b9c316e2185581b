/* Nothing of curl. librdkafka includes this name wherever WITH_OAUTHBEARER_OIDC is defined, and its cmake build defines it
   also as 0, which says that nothing of it is used. See `./dev build`. */
